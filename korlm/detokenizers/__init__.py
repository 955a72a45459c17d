"""Tokens -> written Korean."""

from __future__ import annotations
