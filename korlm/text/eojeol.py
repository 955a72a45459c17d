"""Split many lines into eojeols, the units between blanks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from korlm.text.unicode import BLANKS

Ints = npt.NDArray[np.integer[Any]]


def split_units(texts: Sequence[str]) -> tuple[Ints, pa.StringArray]:
    """Return the number of units of each line, (lines,), and the units of all lines.

    A blank line has no units, even if it contains control characters, which ``str.split`` returns.

    >>> lengths, units = split_units(["나는  간다", "", " 너도"])
    >>> lengths.tolist(), units.to_pylist()
    ([2, 0, 1], ['나는', '간다', '너도'])
    """
    lines = [text.split() if text.strip(BLANKS) else [] for text in texts]
    lengths = np.fromiter(map(len, lines), np.int64, len(lines))
    return lengths, pa.array(list(chain.from_iterable(lines)), pa.string())


def count_units(texts: Sequence[str]) -> Ints:
    """Return the number of units of each line, (lines,)."""
    counts = (len(text.split()) if text.strip(BLANKS) else 0 for text in texts)
    return np.fromiter(counts, np.int64, len(texts))
