"""Define blocks of consecutive lines."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class LineBlock(NamedTuple):
    """Consecutive lines of one document, or of which each is a document.

    An object for each line would be slow.
    """

    split: str
    document: str  # ``doc_id`` of the document; if the lines are documents, the name of the file
    first: int  # number of the first line within the document, or the file, from 1
    texts: list[str]  # the lines as read, without line ends
    # Other columns of the file that the settings name: name -> value for each line.
    columns: Mapping[str, list[str]] = MappingProxyType({})
    are_documents: bool = False

    def doc_id(self, index: int = 0) -> str:
        """Return the name of the document of a line."""
        return f"{self.document}#{self.first + index}" if self.are_documents else self.document

    def part(self, begin: int, end: int) -> LineBlock:
        """Return the lines with the indices begin to end - 1."""
        columns = {name: values[begin:end] for name, values in self.columns.items()}
        texts = self.texts[begin:end]
        return self._replace(first=self.first + begin, texts=texts, columns=columns)
