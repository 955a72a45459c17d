"""Modules between the encoder and the loss of a task."""
