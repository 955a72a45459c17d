"""Predictions of a trained model of a task: labels, spans or texts."""
