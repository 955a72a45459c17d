"""Infrastructure that knows nothing of language models."""
