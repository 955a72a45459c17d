"""Stage 3: the prepared corpus on disk, and batches of it."""

from __future__ import annotations
