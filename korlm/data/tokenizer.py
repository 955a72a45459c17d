"""Tokenizers: lines of text -> their tokens, each with a tag and the eojeol it stands in.

The light ones are here, which need no process of their own (the others: ``korlm.data.slow``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from korlm.data.characters import jamo_of
from korlm.data.columns import EMPTY, Analysis, build_columns, columns_of
from korlm.data.corpus import is_blank
from korlm.data.spans import eojeol_of
from korlm.data.units import split_units

BLANK = "▁"  # a blank among the tokens of the syllable tokenizer
# Scalars made once: each made anew costs Arrow a search for pandas.
_OK, _EMPTY, _NO_TAG = (pa.scalar(text, pa.string()) for text in ("ok", "empty", ""))


class Tokenizer(Protocol):
    """What every tokenizer can do; the batch form may be faster, never different."""

    name: str
    version: str

    def analyze(self, text: str) -> Analysis:
        """The tokens of one line; text is NFC."""

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """One row for every line, in order (``korlm.data.columns``)."""

    def tokenize(self, text: str) -> list[str]:
        """The tokens of one line alone."""


class LightTokenizer(ABC):
    """What tokenizers share that run in this process."""

    name: str
    version = "1"

    @abstractmethod
    def analyze(self, text: str) -> Analysis:
        """The tokens of one line."""

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """One row for every line."""
        return columns_of([self.analyze(text) for text in texts])

    def tokenize(self, text: str) -> list[str]:
        """The tokens of one line alone."""
        return self.analyze(text).morphs


class EojeolTokenizer(LightTokenizer):
    """Units between white space. Text can be rebuilt but for the kind and number of blanks.

    >>> EojeolTokenizer().tokenize("나는  학교에 간다.")
    ['나는', '학교에', '간다.']
    """

    name = "eojeol"

    def analyze(self, text: str) -> Analysis:
        """The tokens of one line."""
        morphs = text.split()
        if not morphs or is_blank(text):
            return EMPTY
        return Analysis(morphs, [""] * len(morphs), list(range(len(morphs))))

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """One row for every line, made of all lines at once."""
        lengths, morphs = split_units(texts)
        starts = np.cumsum(lengths) - lengths
        eojeol = np.arange(len(morphs), dtype=np.int32) - np.repeat(starts, lengths)
        status = pc.if_else(pa.array(lengths > 0), _OK, _EMPTY)
        return build_columns(lengths, morphs, pa.repeat(_NO_TAG, len(morphs)), eojeol, status)


class SyllableTokenizer(LightTokenizer):
    """Characters, which in Korean are mostly syllables; white space becomes ``▁``.

    Text can be rebuilt but for the kind of its blanks.

    >>> SyllableTokenizer().tokenize("나는 간다")
    ['나', '는', '▁', '간', '다']
    """

    name = "syllable"

    def analyze(self, text: str) -> Analysis:
        """The tokens of one line."""
        if is_blank(text):
            return EMPTY
        morphs = [BLANK if c.isspace() else c for c in text]
        return Analysis(morphs, [""] * len(morphs), eojeol_of(text))


class JamoTokenizer(LightTokenizer):
    """Letters: as syllables, but each Hangul syllable becomes its two or three conjoining jamo.

    They stand in the code points of Unicode's NFD, where the consonant that begins a syllable is
    another letter than the same one at its end. So NFC of all tokens in a row is the text again,
    but for the kind of its blanks; letters that were written one by one (ㅋㅋ) stay as they are.

    >>> JamoTokenizer().tokenize("간 ㅋ")
    ['ᄀ', 'ᅡ', 'ᆫ', '▁', 'ㅋ']
    """

    name = "jamo"

    def analyze(self, text: str) -> Analysis:
        """The tokens of one line."""
        whole = SyllableTokenizer().analyze(text)
        letters = [jamo_of(token) for token in whole.morphs]
        morphs = [letter for parts in letters for letter in parts]
        eojeol = [at for at, parts in zip(whole.eojeol, letters, strict=True) for _ in parts]
        return Analysis(morphs, [""] * len(morphs), eojeol, whole.status)
