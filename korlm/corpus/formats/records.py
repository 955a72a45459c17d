"""Define records (rows of tables, objects of JSON, sentences of CoNLL), and parts of files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from korlm.config import TextConfig

Line = tuple[int, str]  # number of a line in its file, from 1, and its text without the line end


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
    """Return a record, given the value of each of ``config.columns``."""
    values = iter(cells)
    text = next(values)
    document = next(values) if config.document_column else ""
    annotation = next(values) if config.annotation_key else ""
    return Record(text, document, annotation, tuple(values))


class FileRange(NamedTuple):
    """A part of a file that begins and ends at a record; by default the whole file.

    Attributes:
        begin: beginning of the part, in bytes; for Parquet, in row groups.
        end: end of the part (exclusive), in the same unit; None: the end of the file.
        lines: number of lines of the file before the part.
    """

    begin: int = 0
    end: int | None = None
    lines: int = 0


WHOLE = FileRange()
