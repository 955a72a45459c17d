"""Blocks of consecutive lines."""

from __future__ import annotations

from typing import NamedTuple


class LineBlock(NamedTuple):
    """Consecutive lines of one document; an object for each line would be slow.

    Attributes:
        split: name of the split.
        doc_id: of the document.
        first: number of the first line within the document, from 1.
        texts: the lines as read, without line ends.
        labels: of the lines; None if the corpus has none.
    """

    split: str
    doc_id: str
    first: int
    texts: list[str]
    labels: list[str] | None = None

    def part(self, begin: int, end: int) -> LineBlock:
        """Return the lines with the indices begin to end - 1."""
        labels = None if self.labels is None else self.labels[begin:end]
        return self._replace(first=self.first + begin, texts=self.texts[begin:end], labels=labels)
