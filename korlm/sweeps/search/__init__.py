"""Search of settings: proposes jobs of a sweep, learns from their figures, ends bad ones early."""

from __future__ import annotations
