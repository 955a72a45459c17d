"""Tables as people read them in a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from korlm.text.unicode import BLANKS

_VISIBLE_BLANKS = {
    ord(c): f"\\x{ord(c):02x}" for c in BLANKS if not c.isprintable() and ord(c) < 0xA0
}


_VISIBLE_BLANKS |= str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


_VISIBLE_BLANKS |= str.maketrans(
    {"\u2028": "\\u2028", "\u2029": "\\u2029"}
)  # line ends to some readers


def tsv_cell(value: object) -> str:
    r"""A value as it stands in a TSV file.

    >>> print(tsv_cell("a\tb"))
    a\tb
    """
    return str(value).translate(_VISIBLE_BLANKS)


def aligned(cells: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Rows with their columns beside each other, two blanks between.

    Args:
        cells: of each row.
        left: columns that stand to the left; all others stand to the right.

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
