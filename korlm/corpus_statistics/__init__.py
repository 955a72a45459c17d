"""What a prepared corpus is like: counts, repeated lines, unknown words, laws of frequency."""
