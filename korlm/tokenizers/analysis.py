"""Analyses of single lines (``columns.py`` has those of batches)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """A part of a line, as character offsets."""

    begin: int
    end: int


NORMAL_STATUSES = ("ok", "empty")  # of lines without any loss


class Analysis(NamedTuple):
    """Tokens of one line.

    Attributes:
        morphs: the tokens.
        tags: one per token; empty strings if the tokenizer has no tags.
        eojeol: for each token, the index of the eojeol (unit between white space) it belongs to.
        status: ``KIND`` or ``KIND: REASON``. ``ok``; ``empty``: the line is blank; ``lost``: some
            characters are in no token; ``cut``: the line was analyzed in parts; ``fallback``: some
            parts could not be analyzed and are tokens as written.
        dropped: the number of characters that are in no token.
        seconds: the time the line took; 0 if not measured.
        spans: begin and end of each token in the line, in turn; empty if not asked for.
    """

    morphs: list[str]
    tags: list[str]
    eojeol: list[int]
    status: str = "ok"
    dropped: int = 0
    seconds: float = 0.0
    spans: Sequence[int] = ()


EMPTY = Analysis([], [], [], "empty")
