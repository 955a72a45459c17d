"""Text generation: sampling, beam search, completion."""
