"""Settings of the groups of conf/, such as corpus, model and task."""
