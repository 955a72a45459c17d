"""A block of consecutive lines of one document."""

from __future__ import annotations

from typing import NamedTuple


class LineBlock(NamedTuple):
    """Lines of a document that follow each other: one object for many, or Python would be slow.

    ``texts`` are the lines as read, ``first`` is the number of the first one within the document,
    from 1.
    """

    split: str
    doc_id: str
    first: int
    texts: list[str]
