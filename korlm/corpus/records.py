"""Define what readers of files yield: records, blocks of consecutive lines, and remarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from korlm.config import TextConfig

Line = tuple[int, str]  # number of a line in its file, from 1, and its text without the line end


class Record(NamedTuple):
    """A record of a corpus."""

    text: str  # may have several lines
    document: str = ""  # name of the document; empty: the record is a document of its own
    annotation: str = ""  # the label or the target text; empty if the settings name no column
    kept: tuple[str, ...] = ()  # values of ``corpus.keep_columns``


def to_record(config: TextConfig, cells: Sequence[str]) -> Record:
    """Return a record, given the value of each of ``config.columns``."""
    values = iter(cells)
    text = next(values)
    document = next(values) if config.document_column else ""
    annotation = next(values) if config.annotation_key else ""
    return Record(text, document, annotation, tuple(values))


class FileRange(NamedTuple):
    """A part of a file that begins and ends at a record; by default the whole file."""

    begin: int = 0  # in bytes; for Parquet, in row groups
    end: int | None = None  # exclusive, in the same unit; None: the end of the file
    lines: int = 0  # number of lines before the part


WHOLE = FileRange()


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
