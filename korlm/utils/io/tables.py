"""Tables for terminals, and cells of TSV files."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from korlm.text.unicode import BLANKS

_VISIBLE_BLANKS = {
    ord(c): f"\\x{ord(c):02x}" for c in BLANKS if not c.isprintable() and ord(c) < 0xA0
}


_VISIBLE_BLANKS |= str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


_VISIBLE_BLANKS |= str.maketrans(
    {"\u2028": "\\u2028", "\u2029": "\\u2029"}
)  # some programs treat them as line ends


def tsv_cell(value: object) -> str:
    r"""Return a value as the cell of a TSV file.

    >>> print(tsv_cell("a\tb"))
    a\tb
    """
    return str(value).translate(_VISIBLE_BLANKS)


def aligned(cells: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Return rows with aligned columns, separated by two spaces.

    Args:
        cells: the cells of each row.
        left: indices of left-aligned columns; all others are right-aligned.

    >>> aligned([["run", "loss"], ["a", "3.5"]])
    ['run  loss', 'a     3.5']
    """
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
