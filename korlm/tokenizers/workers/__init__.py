"""Tokenizers in child processes, with a cache of analyzed lines."""
