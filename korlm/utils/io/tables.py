"""Format tables as text: cells and rows of TSV files, and aligned columns for a terminal."""

from __future__ import annotations

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


def aligned(cells: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Return rows with aligned columns, separated by two spaces; those of ``left`` left-aligned.

    >>> aligned([["run", "loss"], ["a", "3.5"]])
    ['run  loss', 'a     3.5']
    """
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    rows = []
    for row in cells:
        padded = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (width - _width(cell))
            padded.append(cell + blanks if index in left else blanks + cell)
        rows.append("  ".join(padded))
    return rows


def _width(text: str) -> int:
    """Return the number of columns of a text in a terminal, where Hangul is two columns wide."""
    return len(text) + sum(unicodedata.east_asian_width(char) in "WF" for char in text)
