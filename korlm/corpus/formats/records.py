"""Records: the rows of tables and the objects of JSON files; and parts of files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from korlm.config import TextConfig

Line = tuple[int, str]  # its number in the file, from 1, and the text without the line end


class Record(NamedTuple):
    """A record of a corpus.

    Attributes:
        text: the text, which may have several lines.
        document: name of the document; empty: the record is a document of its own.
        annotation: the label or the target text; empty if the settings name no such column.
        kept: the values of ``corpus.keep_columns``.
    """

    text: str
    document: str = ""
    annotation: str = ""
    kept: tuple[str, ...] = ()


def to_record(config: TextConfig, cells: Sequence[str]) -> Record:
    """Return a record, given the values of ``config.columns``."""
    rest = iter(cells)
    text = next(rest)
    document = next(rest) if config.document_column else ""
    annotation = next(rest) if config.annotation_key else ""
    return Record(text, document, annotation, tuple(rest))


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
