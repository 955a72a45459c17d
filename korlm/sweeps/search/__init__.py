"""Hyperparameter search with Optuna: proposes jobs of a sweep, and prunes bad ones."""

from __future__ import annotations
