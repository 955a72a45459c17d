"""Stage 1: files -> documents -> lines, each with a split."""
