"""Readers and writers of n-best lists."""
