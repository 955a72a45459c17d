"""Files of a prepared corpus: token shards and labels."""
