"""Readers and writers of n-best list formats."""
