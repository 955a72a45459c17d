"""Surprisal of every token and eojeol of a text, as tables."""
