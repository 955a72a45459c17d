"""A local web page and a JSON interface to a trained run."""
