"""Tokenizers whose tokens are parts of eojeols: learned from train, or given as a file."""
