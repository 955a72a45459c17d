"""Tokenizing on a Dask cluster."""
