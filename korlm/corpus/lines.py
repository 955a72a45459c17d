"""Define blocks of consecutive lines."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class LineBlock(NamedTuple):
    """Consecutive lines of one document; an object for each line would be slow.

    Attributes:
        split: name of the split.
        doc_id: name of the document.
        first: number of the first line within the document, from 1.
        texts: the lines as read, without line ends.
        columns: other columns of the file that the settings name, such as the label: name -> value
            for each line.
    """

    split: str
    doc_id: str
    first: int
    texts: list[str]
    columns: Mapping[str, list[str]] = MappingProxyType({})

    def part(self, begin: int, end: int) -> LineBlock:
        """Return the lines with the indices begin to end - 1."""
        columns = {name: values[begin:end] for name, values in self.columns.items()}
        texts = self.texts[begin:end]
        return self._replace(first=self.first + begin, texts=texts, columns=columns)
