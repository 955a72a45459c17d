"""What to do with a line that an analyzer cannot read whole: find what is to blame, spare the rest.

The line is parted around its longest eojeol, which is mostly to blame, and each part is tried by
itself; what still cannot be read is parted in halves and around its longest eojeol by turns, until
eojeols that cannot be read stand alone. These are cut into pieces of eight characters and, where
that does not help, into halves; a character that cannot be read alone is left as it is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import EMPTY, Analysis, Span

UNKNOWN_TAG = "UN"  # Kkma's own tag of what it does not know


PIECE = 8  # characters; pieces of any text are short enough for Kkma


_EOJEOL = re.compile(r"\S+")  # what str.split gives


Attempt = Callable[[Span], "Analysis | str"]


class _Parts:
    """The recursion over one line; collects the analyses of its parts, in order."""

    def __init__(self, text: str, attempt: Attempt, cut: bool) -> None:
        self.eojeol = [Span(*match.span()) for match in _EOJEOL.finditer(text)]
        self.text = text
        self.attempt = attempt
        self.cut = cut
        self.found = Analysis([], [], [])
        self.left = False  # whether anything stays as it was written

    def part(self, first: int, last: int, halve: bool = False) -> None:
        """Eojeols that cannot be read together, from ``first`` up to ``last``, not included."""
        if last - first == 1:
            self._cut(first, self.eojeol[first], PIECE)
            return
        # By turns: if the longest were always taken, one to blame among thousands of equal length
        # would take as many attempts, each perhaps a dead worker, and as deep a recursion.
        bounds = [first, (first + last) // 2, last]
        if not halve:
            lengths = [span.end - span.begin for span in self.eojeol[first:last]]
            worst = first + lengths.index(max(lengths))
            bounds = [first, worst, worst + 1, last]
        for begin, end in itertools.pairwise(bounds):
            if begin == end:
                continue
            found = self._try(Span(self.eojeol[begin].begin, self.eojeol[end - 1].end))
            if isinstance(found, str):
                self.part(begin, end, not halve)
            else:
                self._add(found, begin)

    def _try(self, span: Span) -> Analysis | str:
        part = self.text[span.begin : span.end]
        if is_blank(part):  # control characters, which are no tokens
            return EMPTY._replace(dropped=len("".join(part.split())))
        return self.attempt(span)

    def _cut(self, eojeol: int, span: Span, size: int) -> None:
        length = span.end - span.begin
        if not self.cut or length == 1:
            self.left = True
            left = [self.text[span.begin : span.end]]
            self._add(Analysis(left, [UNKNOWN_TAG], [0]), eojeol)
            return
        size = size if length > size else (length + 1) // 2
        for begin in range(span.begin, span.end, size):
            piece = Span(begin, min(begin + size, span.end))
            found = self._try(piece)
            if isinstance(found, str):
                self._cut(eojeol, piece, size)
            else:
                self._add(found, eojeol)

    def _add(self, found: Analysis, first: int) -> None:
        self.found.morphs.extend(found.morphs)
        self.found.tags.extend(found.tags)
        self.found.eojeol.extend(first + index for index in found.eojeol)
        self.found = self.found._replace(
            dropped=self.found.dropped + found.dropped, seconds=self.found.seconds + found.seconds
        )


def analyze_with_fallback(text: str, why: str, attempt: Attempt, cut: bool) -> Analysis:
    """The analysis of a line that cannot be read whole.

    Args:
        text: the line, not blank.
        why: what became of the line as a whole; goes into the status.
        attempt: analyses a part of the line, not blank, by itself, or says in a word why it cannot.
        cut: whether an eojeol may be cut; if not, it stays as it is.

    Returns:
        An analysis with the status ``fallback: why`` if something is left as it was written, with
        the tag UN; else ``cut: why``.

    >>> def attempt(span):
    ...     part = "가나 다라 마"[span.begin:span.end]
    ...     return "no" if "다" in part else Analysis(part.split(), ["X"] * len(part.split()), [0])
    >>> analyze_with_fallback("가나 다라 마", "no", attempt, cut=False)[:4]
    (['가나', '다라', '마'], ['X', 'UN', 'X'], [0, 1, 2], 'fallback: no')
    """
    parts = _Parts(text, attempt, cut)
    parts.part(0, len(parts.eojeol))
    return parts.found._replace(status=f"{'fallback' if parts.left else 'cut'}: {why}")
