"""Define the analysis of a single line (``columns.py`` has analyses of batches)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """The characters begin to end - 1 of a line."""

    begin: int
    end: int


NORMAL_STATUSES = ("ok", "empty")  # statuses of lines that were analyzed without any loss


class Analysis(NamedTuple):
    """Tokens of one line.

    Attributes:
        morphs: the tokens.
        tags: the tag of each token; "" if the tokenizer has no tags.
        eojeol: for each token, the index of the eojeol (unit between white space) it belongs to.
        status: ``KIND`` or ``KIND: REASONS``. ``ok``; ``empty``: the line is blank; ``lost``: some
            characters are in no token; ``cut``: the line was analyzed in parts; ``fallback``: some
            parts could not be analyzed and are tokens as they are written.
        dropped: number of characters that are in no token.
        seconds: time that the line took; 0 if not measured.
        spans: begin and end of the first token, of the second token, ...; empty if not requested.
    """

    morphs: list[str]
    tags: list[str]
    eojeol: list[int]
    status: str = "ok"
    dropped: int = 0
    seconds: float = 0.0
    spans: Sequence[int] = ()


EMPTY = Analysis([], [], [], "empty")
