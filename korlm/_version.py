"""The version of korlm."""

__version__ = "0.1.0"
