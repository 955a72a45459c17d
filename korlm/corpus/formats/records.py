"""Define records (rows of tables, objects of JSON, sentences of CoNLL), and parts of files."""

from __future__ import annotations

from collections.abc import Sequence
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
