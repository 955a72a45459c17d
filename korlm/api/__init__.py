"""Python interface of korlm: trains runs and uses trained ones."""
