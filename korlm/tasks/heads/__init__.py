"""Blocks of the networks of single tasks, on top of the encoder."""
