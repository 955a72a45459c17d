"""Records: the rows of tables and the objects of JSON files."""

from __future__ import annotations

from typing import NamedTuple


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
