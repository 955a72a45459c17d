"""Analyze a line in parts, if an analyzer cannot process it as a whole.

The line is split around its longest eojeol, the most likely cause, and each part is analyzed. A
part that fails is split again, alternately in halves and around its longest eojeol, down to single
eojeols. An eojeol that fails is cut into pieces of eight characters, and a piece that fails in
halves. A character that fails alone becomes a token with the tag UN.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import EMPTY, Analysis, Span

UNKNOWN_TAG = "UN"  # Kkma's own tag for unknown words

PIECE_CHARS = 8  # number of characters of a piece; Kkma can analyze any text of this length

_EOJEOL = re.compile(r"\S+")  # the units of str.split

# Returns the analysis of a part of the line, or the reason why it failed.
Attempt = Callable[[Span], "Analysis | str"]


class _Splitter:
    """Splits one line recursively and collects the analyses of its parts, in order."""

    def __init__(
        self, text: str, reason: str, attempt: Attempt, may_cut: bool, with_spans: bool
    ) -> None:
        self.text = text
        self.reasons = [reason]  # distinct ones, of the line and of its parts
        self._with_spans = with_spans
        self.eojeols = [Span(*match.span()) for match in _EOJEOL.finditer(text)]
        self.analysis = Analysis([], [], [])
        self.spans: list[int] = []  # of ``analysis``; one tuple per part would be quadratic
        self.has_unknown = False
        self._attempt = attempt
        self._may_cut = may_cut

    def split(self, first: int, last: int, halve: bool = False) -> None:
        """Analyze eojeols ``first`` to ``last - 1``, which failed together, in parts."""
        if last - first == 1:
            self._cut(first, self.eojeols[first], PIECE_CHARS)
            return
        # Alternately: to isolate one of thousands of eojeols of the same length, splitting around
        # the longest each time would need an attempt, and a level of recursion, for each of them.
        bounds = [first, (first + last) // 2, last]
        if not halve:
            lengths = [span.end - span.begin for span in self.eojeols[first:last]]
            longest = first + lengths.index(max(lengths))
            bounds = [first, longest, longest + 1, last]
        for begin, end in itertools.pairwise(bounds):
            if begin == end:
                continue
            result = self._try(Span(self.eojeols[begin].begin, self.eojeols[end - 1].end))
            if isinstance(result, str):
                self.split(begin, end, not halve)
            else:
                self._add(result, begin, self.eojeols[begin].begin)

    def _try(self, span: Span) -> Analysis | str:
        """Return the analysis of a part, or the reason why it failed."""
        part = self.text[span.begin : span.end]
        if is_blank(part):  # control characters, which are not tokens
            return EMPTY._replace(dropped=len("".join(part.split())))
        result = self._attempt(span)
        if isinstance(result, str) and result not in self.reasons:
            self.reasons.append(result)
        return result

    def _cut(self, eojeol: int, span: Span, size: int) -> None:
        """Analyze an eojeol, or a piece of it, in pieces of at most ``size`` characters."""
        length = span.end - span.begin
        if not self._may_cut or length == 1:
            self.has_unknown = True
            token = self.text[span.begin : span.end]
            whole = (0, len(token)) if self._with_spans else ()
            self._add(Analysis([token], [UNKNOWN_TAG], [0], spans=whole), eojeol, span.begin)
            return
        size = size if length > size else (length + 1) // 2
        for begin in range(span.begin, span.end, size):
            piece = Span(begin, min(begin + size, span.end))
            result = self._try(piece)
            if isinstance(result, str):
                self._cut(eojeol, piece, size)
            else:
                self._add(result, eojeol, begin)

    def _add(self, part: Analysis, first_eojeol: int, offset: int) -> None:
        """Append the analysis of a part that begins at an eojeol, at the character ``offset``."""
        self.analysis.morphs.extend(part.morphs)
        self.analysis.tags.extend(part.tags)
        self.analysis.eojeol.extend(first_eojeol + index for index in part.eojeol)
        self.spans.extend(offset + position for position in part.spans)
        self.analysis = self.analysis._replace(
            dropped=self.analysis.dropped + part.dropped,
            seconds=self.analysis.seconds + part.seconds,
        )


def analyze_with_fallback(
    text: str, reason: str, attempt: Attempt, may_cut: bool, with_spans: bool = False
) -> Analysis:
    """Return the analysis of a line that failed as a whole.

    Args:
        text: the line; it must not be blank.
        reason: why the line failed, for the status.
        attempt: returns the analysis of a non-blank part of the line, or the reason why it failed.
        may_cut: whether an eojeol may be cut; if not, an eojeol that fails becomes one token.
        with_spans: whether the analyses have spans.

    Returns:
        An analysis with the status ``cut: REASONS``, or ``fallback: REASONS`` if some parts are
        tokens with the tag UN. The reasons are those of the line and of its parts.
        Statuses of analyzed parts are not kept, and ``seconds`` lacks attempts that failed.

    >>> def attempt(span):
    ...     part = "가나 다라 마"[span.begin:span.end]
    ...     return "no" if "다" in part else Analysis(part.split(), ["X"] * len(part.split()), [0])
    >>> analyze_with_fallback("가나 다라 마", "no", attempt, may_cut=False)[:4]
    (['가나', '다라', '마'], ['X', 'UN', 'X'], [0, 1, 2], 'fallback: no')
    """
    splitter = _Splitter(text, reason, attempt, may_cut, with_spans)
    splitter.split(0, len(splitter.eojeols))
    kind = "fallback" if splitter.has_unknown else "cut"
    status = f"{kind}: {', '.join(splitter.reasons)}"
    return splitter.analysis._replace(status=status, spans=tuple(splitter.spans))
