"""Files, locks, checksums, tables and the standard streams."""
