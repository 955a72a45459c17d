"""Detokenizers: tokens -> written Korean."""
