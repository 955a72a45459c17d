"""Where the pieces of a corpus are prepared: in this process, or on the workers of Dask."""
