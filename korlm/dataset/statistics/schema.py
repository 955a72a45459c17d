"""Type of the corpus statistics."""

from __future__ import annotations

from typing import Any

Statistics = dict[str, Any]
