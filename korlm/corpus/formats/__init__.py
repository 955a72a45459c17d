"""Read formats of files that contain records: tables, JSON, Parquet, CoNLL."""
