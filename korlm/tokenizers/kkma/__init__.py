"""Kkma: KoNLPy's engine, a fast engine with the same results, and the class for Python."""
