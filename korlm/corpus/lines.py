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
    """

    split: str
    doc_id: str
    first: int
    texts: list[str]
