"""Formats of files that hold records: tables, JSON, Parquet, CoNLL."""
