"""Records: the rows of tables and the objects of JSON files; and parts of files."""

from __future__ import annotations

from typing import NamedTuple

Line = tuple[int, str]  # its number in the file, from 1, and the text without the line end


class Record(NamedTuple):
    """A record of a corpus.

    Attributes:
        text: the text, which may have several lines.
        document: name of the document; empty: the record is a document of its own.
        annotation: the label or the target text; empty if the settings name no such column.
    """

    text: str
    document: str = ""
    annotation: str = ""


class FileRange(NamedTuple):
    """A part of a file that begins and ends at a record; by default the whole file.

    Attributes:
        begin: in bytes; in row groups of Parquet.
        end: None: the end of the file.
        lines: in the file before it, for messages and numbers.
    """

    begin: int = 0
    end: int | None = None
    lines: int = 0


WHOLE = FileRange()
