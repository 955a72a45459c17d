"""What a prepared corpus is like: counts, repeated lines, unknown words, laws of frequency."""

from __future__ import annotations
