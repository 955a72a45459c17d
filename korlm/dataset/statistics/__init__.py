"""Statistics of a prepared corpus: counts, repeated lines, unknown words, power laws."""

from __future__ import annotations
