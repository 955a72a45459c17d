"""Find the positions of tokens in their line: eojeol indices, and characters in no token."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from korlm.tokenizers.analysis import Analysis, Span


def eojeol_of(text: str) -> list[int]:
    """Return the index of the eojeol of each character of a non-blank line.

    A blank belongs to the eojeol before it; at the beginning of the line, to the first eojeol.

    >>> eojeol_of(" 가나  다 ")
    [0, 0, 0, 0, 1, 1, 1]
    """
    indices, current, last = [], 0, len(text.split()) - 1
    for offset, char in enumerate(text):
        indices.append(min(current, last))
        if char.isspace() and offset and not text[offset - 1].isspace():
            current += 1
    return indices


def eojeol_of_visible(text: str) -> list[int]:
    """Return the index of the eojeol of each character that is not white space."""
    return [index for index, eojeol in enumerate(text.split()) for _ in eojeol]


def find_spans(text: str, surfaces: Iterable[str]) -> list[Span]:
    """Return the spans of surfaces that follow each other in a line.

    A surface that is not in the rest of the line has an empty span.
    """
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


def trimmed(text: str, begin: int, end: int) -> Span:
    """Return a span without the white space at its start: that of a blank belongs to what follows.

    >>> trimmed("가 나", 1, 3), trimmed("가 나", 1, 2)
    (Span(begin=2, end=3), Span(begin=2, end=2))
    """
    return Span(end - len(text[begin:end].lstrip()), end)


def analysis_of(text: str, morphs: list[str], tags: list[str], spans: Sequence[Span]) -> Analysis:
    """Return the analysis of a line, given the spans of its tokens.

    The line must not be blank; spans may overlap (갔 contains both 가 and 았).

    >>> analysis_of("나는 갔!", ["나", "는", "가", "았"], [""] * 4,
    ...             [Span(0, 1), Span(1, 2), Span(3, 4), Span(3, 4)])[2:5]
    ([0, 0, 1, 1], 'lost: 1 characters', 1)
    """
    eojeol_at = eojeol_of(text)
    covered = bytearray(map(str.isspace, text))
    for begin, end in spans:
        covered[begin:end] = b"\1" * (end - begin)
    eojeol = [eojeol_at[min(begin, len(text) - 1)] for begin, _ in spans]
    lost = (char for char, is_covered in zip(text, covered, strict=True) if not is_covered)
    return Analysis(morphs, tags, eojeol, *status_and_dropped(lost))


def status_and_dropped(lost: Iterable[str]) -> tuple[str, int]:
    """Return ``status`` and ``dropped`` of an analysis, given the characters that are in no token.

    Control and format characters count as dropped, but do not change the status.
    """
    chars = list(lost)
    visible = sum(unicodedata.category(char)[0] != "C" for char in chars)
    return f"lost: {visible} characters" if visible else "ok", len(chars)
