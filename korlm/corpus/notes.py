"""What is remarkable about the files of a corpus, counted, so that it is one line each."""

from __future__ import annotations


class Notes:
    """Counts of remarks, each with the place where it was met first.

    >>> notes = Notes()
    >>> notes.add("rows left out", "a.jsonl, line 2")
    >>> notes.add("rows left out", "a.jsonl, line 9")
    >>> notes.lines()
    ['rows left out: 2 (first in a.jsonl, line 2)']
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, remark: str, where: str, count: int = 1) -> None:
        """Count a remark.

        Args:
            remark: what is counted: ``"rows left out"``.
            where: file and, where there is one, row or line.
            count: how often.
        """
        before, first = self._found.get(remark, (0, where))
        self._found[remark] = before + count, first

    def lines(self) -> list[str]:
        """Return a line for each remark, in the order in which they were met."""
        return [
            f"{remark}: {count:,} (first in {where})"
            for remark, (count, where) in self._found.items()
        ]
