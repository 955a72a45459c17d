"""Executors that prepare the pieces of a corpus: in this process, or on the workers of Dask."""
