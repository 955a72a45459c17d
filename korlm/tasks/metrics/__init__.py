"""Metrics of tasks: pure functions."""
