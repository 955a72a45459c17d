"""Interface of tokenizers, and base class of those that run in this process.

Slow tokenizers run in child processes (``workers/``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from korlm.tokenizers.analysis import Analysis, to_record_batch

SPACE_SYMBOL = "▁"  # the token of white space


class Tokenizer(Protocol):
    """A tokenizer. The results for a line never depend on the batch it is in."""

    name: str
    version: str

    def analyze(self, text: str) -> Analysis:
        """Return the tokens of one line (NFC)."""

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """Return one row for every line, in order (``korlm.tokenizers.analysis``)."""

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of one line without tags."""


class InProcessTokenizer(ABC):
    """Base class of tokenizers that run in this process."""

    name: str
    version = "1"

    @abstractmethod
    def analyze(self, text: str) -> Analysis:
        """Return the tokens of one line."""

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """Return one row for every line."""
        return to_record_batch([self.analyze(text) for text in texts])

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of one line without tags."""
        return self.analyze(text).morphs
