"""Where tokens stand in their line: eojeols, and characters that are in no token."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from korlm.tokenizers.analysis import Analysis, Span


def eojeol_of(text: str) -> list[int]:
    """For every character of a line that is not blank, its eojeol; blanks are in the one they end.

    >>> eojeol_of(" 가나  다 ")
    [0, 0, 0, 0, 1, 1, 1]
    """
    eojeol, at, last = [], 0, len(text.split()) - 1
    for index, char in enumerate(text):
        eojeol.append(min(at, last))
        if char.isspace() and index and not text[index - 1].isspace():
            at += 1
    return eojeol


def eojeol_starts(text: str) -> list[int]:
    """For every character of ``text`` that is not white space, the index of its eojeol, from 0."""
    return [index for index, eojeol in enumerate(text.split()) for _ in eojeol]


def find_spans(text: str, surfaces: Iterable[str]) -> list[Span]:
    """Where surfaces stand that follow each other in a line; empty spans for those that do not."""
    spans: list[Span] = []
    end = 0
    for surface in surfaces:
        begin = text.find(surface, end)
        if begin < 0:
            spans.append(Span(end, end))
        else:
            end = begin + len(surface)
            spans.append(Span(begin, end))
    return spans


def analysis_of(text: str, morphs: list[str], tags: list[str], spans: Sequence[Span]) -> Analysis:
    """The analysis of a line whose tokens stand at known places.

    Args:
        text: the line, not blank.
        morphs: its tokens.
        tags: of them.
        spans: what each is of; two may share characters (갔 is both 가 and 았).

    >>> analysis_of("나는 갔!", ["나", "는", "가", "았"], [""] * 4,
    ...             [Span(0, 1), Span(1, 2), Span(3, 4), Span(3, 4)])[2:5]
    ([0, 0, 1, 1], 'lost: 1 characters', 1)
    """
    owner = eojeol_of(text)
    covered = bytearray(map(str.isspace, text))
    for begin, end in spans:
        covered[begin:end] = b"\1" * (end - begin)
    eojeol = [owner[min(begin, len(text) - 1)] for begin, _ in spans]
    lost = (char for char, is_covered in zip(text, covered, strict=True) if not is_covered)
    return Analysis(morphs, tags, eojeol, *loss(lost))


def loss(lost: Iterable[str]) -> tuple[str, int]:
    """Status and number of characters of a line that are in no token.

    Control and format characters are no loss.
    """
    chars = list(lost)
    grave = sum(unicodedata.category(char)[0] != "C" for char in chars)
    return f"lost: {grave} characters" if grave else "ok", len(chars)
