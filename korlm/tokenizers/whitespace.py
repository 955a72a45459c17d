"""Tokenize into eojeols (the units between white space)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from korlm.text.eojeol import split_units
from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.base import InProcessTokenizer
from korlm.tokenizers.columns import build_columns

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
