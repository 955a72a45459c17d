"""Format tables as text: cells and rows of TSV files, and aligned columns for a terminal."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from korlm.text.unicode import BLANKS

_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}  # the backslash comes first
_UNESCAPES = {escaped: char for char, escaped in _ESCAPES.items()}
_ESCAPE_TABLE = str.maketrans(_ESCAPES)
# All control characters, and others that some programs take for line ends.
_VISIBLE_TABLE = {
    **{ord(c): f"\\x{ord(c):02x}" for c in BLANKS if not c.isprintable() and ord(c) < 0xA0},
    **_ESCAPE_TABLE,
    **str.maketrans({"\u2028": "\\u2028", "\u2029": "\\u2029"}),
}


def escape_tsv(text: str) -> str:
    r"""Escape backslash, tab and line ends, so that ``unescape_tsv`` restores the text.

    >>> print(escape_tsv("a\tb"))
    a\tb
    """
    return text.translate(_ESCAPE_TABLE)


def unescape_tsv(cell: str) -> str:
    r"""Reverse ``escape_tsv``.

    >>> unescape_tsv(r"a\tb")
    'a\tb'
    """
    return re.sub(r"\\.", lambda match: _UNESCAPES.get(match.group(), match.group()), cell)


def tsv_cell(value: object) -> str:
    r"""Return a value as a cell to be read by people: all control characters are escaped.

    >>> print(tsv_cell("a\tb\x00"))
    a\tb\x00
    """
    return str(value).translate(_VISIBLE_TABLE)


def tsv_row(values: Iterable[object]) -> str:
    r"""Return values as a line of a TSV file, its line end included.

    >>> tsv_row(["a", 1])
    'a\t1\n'
    """
    return "\t".join(map(tsv_cell, values)) + "\n"


def text_table(rows: Iterable[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Return rows as a table for a terminal; the columns of ``left`` are left-aligned.

    >>> print(text_table([["run", "loss"], ["a", "3.5"]]))
    run  loss
    a     3.5
    """
    rows = list(rows)
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        blanks = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = (
            cell + blank if index in left else blank + cell
            for index, (cell, blank) in enumerate(zip(row, blanks, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def rounded(value: float) -> str:
    """Return a number with four digits, or without decimals if it is large.

    >>> [rounded(value) for value in (52.57668, 1234567.8, 0.5, math.inf)]
    ['52.58', '1,234,568', '0.5', 'inf']
    """
    is_large = isinstance(value, int) or 1000 <= abs(value) < math.inf
    return f"{value:,.0f}" if is_large else f"{value:.4g}"


def _width(text: str) -> int:
    """Return the number of columns of a text in a terminal, where Hangul is two columns wide."""
    return len(text) + sum(unicodedata.east_asian_width(char) in "WF" for char in text)
