"""Tables as people read them in a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence


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
