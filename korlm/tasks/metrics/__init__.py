"""Metrics of tasks, as functions of plain values."""
