"""Tokenizers: lines of text -> their tokens, each with a tag and the eojeol it stands in.

The light ones are here, which need no process of their own (the others: ``workers/``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from korlm.tokenizers.analysis import Analysis, to_record_batch

SPACE_SYMBOL = "▁"  # a blank among the tokens of the syllable tokenizer


# Scalars made once: each made anew costs Arrow a search for pandas.
_OK, _EMPTY, _NO_TAG = (pa.scalar(text, pa.string()) for text in ("ok", "empty", ""))


class Tokenizer(Protocol):
    """What every tokenizer can do; the batch form may be faster, never different."""

    name: str
    version: str

    def analyze(self, text: str) -> Analysis:
        """The tokens of one line; text is NFC."""

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """One row for every line, in order (``korlm.tokenizers.analysis``)."""

    def tokenize(self, text: str) -> list[str]:
        """The tokens of one line alone."""


class InProcessTokenizer(ABC):
    """What tokenizers share that run in this process."""

    name: str
    version = "1"

    @abstractmethod
    def analyze(self, text: str) -> Analysis:
        """The tokens of one line."""

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """One row for every line."""
        return to_record_batch([self.analyze(text) for text in texts])

    def tokenize(self, text: str) -> list[str]:
        """The tokens of one line alone."""
        return self.analyze(text).morphs
