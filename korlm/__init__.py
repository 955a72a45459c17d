"""korlm: language models for Korean text, from raw text to a perplexity in TensorBoard."""

__version__ = "0.1.0"
