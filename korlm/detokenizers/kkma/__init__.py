"""Detokenize Kkma's morphemes: spelling rules, a decision list, a spacing model."""
