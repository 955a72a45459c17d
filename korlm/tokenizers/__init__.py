"""Stage 2: lines -> tokens; one file per tokenizer."""
