"""Evaluation of trained models: metrics, evaluation modes, surprisal, statistical tests."""
