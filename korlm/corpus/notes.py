"""Count remarks on the files of a corpus, for one log line each."""

from __future__ import annotations


class Notes:
    """Counts of remarks, each with its first location.

    >>> notes = Notes()
    >>> notes.add("rows left out", "a.jsonl, line 2")
    >>> notes.add("rows left out", "a.jsonl, line 9")
    >>> notes.lines()
    ['rows left out: 2 (first in a.jsonl, line 2)']
    """

    def __init__(self) -> None:
        self.counts: dict[str, tuple[int, str]] = {}  # remark -> count, first location

    def add(self, remark: str, location: str, count: int = 1) -> None:
        """Count a remark; the location is a file, and row or line if known."""
        old_count, first = self.counts.get(remark, (0, location))
        self.counts[remark] = old_count + count, first

    def lines(self) -> list[str]:
        """Return a line for each remark, in order of their first occurrence."""
        return [
            f"{remark}: {count:,} (first in {location})"
            for remark, (count, location) in self.counts.items()
        ]
