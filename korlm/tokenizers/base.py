"""Define the base class of tokenizers that run in this process; slow ones are in ``workers/``."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from korlm.config import TokenizerConfig
from korlm.tokenizers.analysis import Analysis

if TYPE_CHECKING:
    import pyarrow as pa

SPACE_SYMBOL = "▁"  # the token that stands for white space


class InProcessTokenizer(ABC):
    """Base class of tokenizers that run in this process.

    The result for a line never depends on the batch that the line is in.
    """

    name: str
    version = "1"  # part of fingerprints; to be changed whenever the tokens of a line change

    @classmethod
    def from_config(
        cls, config: TokenizerConfig, learned: bytes | None = None
    ) -> InProcessTokenizer:
        """Build the tokenizer."""
        return cls()

    @classmethod
    def train(cls, config: TokenizerConfig, lines: Iterable[str]) -> bytes | None:
        """Return what is learned from the lines (NFC) of train; None if nothing is learned."""
        return None

    @classmethod
    def version_of(cls, config: TokenizerConfig, learned: bytes | None = None) -> str:
        """Return the version of the tokenizer with these settings, without building it.

        ``learned`` is what ``train`` returned, if it is known.
        """
        settings = dataclasses.asdict(config)
        del settings["name"]
        return ", ".join([cls.version, *(f"{key}={value}" for key, value in settings.items())])

    @abstractmethod
    def analyze(self, text: str) -> Analysis:
        """Return the tokens of one line (NFC)."""

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """Return one row for every line, in order (``korlm.tokenizers.columns.ANALYSIS``)."""
        from korlm.tokenizers.columns import to_record_batch

        return to_record_batch([self.analyze(text) for text in texts])

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of one line without tags."""
        return self.analyze(text).morphs
