"""Detokenizer for Kkma's morphemes: spelling rules, counts of forms, spacing."""
