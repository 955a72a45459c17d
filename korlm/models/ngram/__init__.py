"""N-gram language models: counting, smoothing and ARPA files."""
