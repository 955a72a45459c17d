"""From raw text to batches: corpora, tokenizers, token shards, vocabulary, ids."""
