"""Tokenize into eojeols (the units between white space), syllables or jamo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from korlm.text.eojeol import split_units
from korlm.text.hangul import decompose
from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.base import SPACE_SYMBOL, InProcessTokenizer
from korlm.tokenizers.columns import build_columns
from korlm.tokenizers.offsets import eojeol_of

# Created once: pa.scalar() of a str tries to import pandas each time.
_OK, _EMPTY, _NO_TAG = (pa.scalar(text, pa.string()) for text in ("ok", "empty", ""))


class EojeolTokenizer(InProcessTokenizer):
    """Splits text at white space.

    The text can be restored from the tokens, except for the kind and amount of its white space.

    >>> EojeolTokenizer().tokenize("나는  학교에 간다.")
    ['나는', '학교에', '간다.']
    """

    name = "eojeol"

    def analyze(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        morphs = text.split()
        if not morphs or is_blank(text):
            return EMPTY
        return Analysis(morphs, [""] * len(morphs), list(range(len(morphs))))

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """Return one row for every line, computed for all lines at once."""
        lengths, morphs = split_units(texts)
        starts = np.cumsum(lengths) - lengths
        eojeol = np.arange(len(morphs), dtype=np.int32) - np.repeat(starts, lengths)
        status = pc.if_else(pa.array(lengths > 0), _OK, _EMPTY)
        return build_columns(lengths, morphs, pa.repeat(_NO_TAG, len(morphs)), eojeol, status)


class SyllableTokenizer(InProcessTokenizer):
    """Splits text into characters, which in Korean are mostly syllables; white space becomes ``▁``.

    The text can be restored from the tokens, except for the kind of its white space.

    >>> SyllableTokenizer().tokenize("나는 간다")
    ['나', '는', '▁', '간', '다']
    """

    name = "syllable"

    def analyze(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        if is_blank(text):
            return EMPTY
        morphs = [SPACE_SYMBOL if c.isspace() else c for c in text]
        return Analysis(morphs, [""] * len(morphs), eojeol_of(text))


class JamoTokenizer(InProcessTokenizer):
    """Splits text into characters, and Hangul syllables into their two or three conjoining jamo.

    As in Unicode's NFD, initial and final consonants are different code points. Therefore the NFC
    of the joined tokens is the text, except for the kind of its white space. Compatibility jamo
    (ㅋㅋ) are not changed.

    >>> JamoTokenizer().tokenize("간 ㅋ")
    ['ᄀ', 'ᅡ', 'ᆫ', '▁', 'ㅋ']
    """

    name = "jamo"

    def analyze(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        syllables = SyllableTokenizer().analyze(text)
        morphs: list[str] = []
        eojeol: list[int] = []
        for syllable, index in zip(syllables.morphs, syllables.eojeol, strict=True):
            jamo = decompose(syllable)
            morphs += jamo
            eojeol += [index] * len(jamo)
        return Analysis(morphs, [""] * len(morphs), eojeol, syllables.status)
