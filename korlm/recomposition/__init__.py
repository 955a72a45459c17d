"""Recomposition: the tokens of a tokenizer -> written Korean with its blanks."""
