"""Tokenizers: lines of text -> their tokens, each with a tag and the eojeol it stands in.

The light ones are here, which need no process of their own (the others: ``workers/``).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

import pyarrow as pa

from korlm.config import TokenizerConfig
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
    version = "1"  # a part of fingerprints: to be changed when the tokens of a line change

    @classmethod
    def from_config(cls, config: TokenizerConfig, learned: bytes | None = None) -> Tokenizer:
        """Return the tokenizer of the settings.

        Args:
            config: its settings.
            learned: what ``train`` returned.
        """
        return cls()

    @classmethod
    def train(cls, config: TokenizerConfig, lines: Iterable[str]) -> bytes | None:
        """Return what is learned from the lines (NFC) of train; None: nothing is."""
        return None

    @classmethod
    def version_of(cls, config: TokenizerConfig) -> str:
        """Return the version of the tokenizer with these settings, without building it."""
        settings = dataclasses.asdict(config)
        del settings["name"]
        return ", ".join([cls.version, *(f"{key}={value}" for key, value in settings.items())])

    @abstractmethod
    def analyze(self, text: str) -> Analysis:
        """The tokens of one line."""

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """One row for every line."""
        return to_record_batch([self.analyze(text) for text in texts])

    def tokenize(self, text: str) -> list[str]:
        """The tokens of one line alone."""
        return self.analyze(text).morphs
