"""Sequence to sequence: generate a target text for a source text."""
