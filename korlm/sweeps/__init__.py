"""Hydra multirun: folders, results, launchers and hyperparameter search."""
