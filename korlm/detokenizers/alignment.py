"""Aligns the tokens of a line with the characters they were made from.

Tokens that are parts of the text are found one after the other. Morphemes may differ from the text
(갔다 is 가+았+다), so the tokens of an eojeol are aligned with it letter by letter, at the smallest
edit distance (Levenshtein 1966).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

from korlm.corpus.normalization import INVISIBLE
from korlm.text.hangul import VOWELS, to_compatibility_jamo
from korlm.tokenizers.analysis import Span
from korlm.tokenizers.base import SPACE_SYMBOL

_EOJEOL = re.compile(r"\S+")
_BLANK = re.compile(r"\s")


def eojeol_spans(text: str) -> list[Span]:
    """Return the spans of the eojeols of a line; those of invisible characters only have none.

    >>> eojeol_spans("나는  간다")
    [Span(begin=0, end=2), Span(begin=4, end=6)]
    """
    matches = _EOJEOL.finditer(text)
    return [Span(*match.span()) for match in matches if INVISIBLE.sub("", match[0])]


def token_spans(text: str, tokens: Sequence[str], eojeol: Sequence[int]) -> list[Span]:
    """Return the part of a line that each token was made from.

    Two spans overlap where two morphemes share a syllable. A token for a blank has an empty span;
    every other span has a character or more.

    Args:
        text: the line as read.
        tokens: of the normalized line, one or more.
        eojeol: index of the eojeol of each token (``korlm.tokenizers.analysis``).

    >>> [text[slice(*span)] for text in ["나는 갔다"]
    ...  for span in token_spans(text, ["나", "는", "가", "았", "다"], [0, 0, 1, 1, 1])]
    ['나', '는', '갔', '갔', '다']
    """
    spans = _find_in_order(text, tokens)
    if spans is not None:
        return spans
    eojeols = eojeol_spans(text)
    if not eojeols or eojeol[-1] >= len(eojeols):  # the tokenizer has split it in another way
        return list(_align(text, tuple(tokens)))
    spans, begin = [], 0
    for index, (offset, end) in enumerate(eojeols):
        until = begin
        while until < len(tokens) and eojeol[until] == index:
            until += 1
        aligned = _align(text[offset:end], tuple(tokens[begin:until]))
        spans += [Span(a + offset, b + offset) for a, b in aligned]
        begin = until
    return spans


def _find_in_order(text: str, tokens: Sequence[str]) -> list[Span] | None:
    """Return the spans of tokens that make up the whole text except for blanks, else None."""
    if "".join(tokens) == _BLANK.sub(SPACE_SYMBOL, text) and len(tokens) == len(text):
        return [Span(at, at + (token != SPACE_SYMBOL)) for at, token in enumerate(tokens)]
    spans, at = [], 0
    for token in tokens:
        written = token.lstrip(SPACE_SYMBOL)
        if not written:
            spans.append(Span(at, at))
            continue
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith(written, at):
            return None
        spans.append(Span(at, at + len(written)))
        at += len(written)
    return None if text[at:].strip() else spans


def _letters(text: str) -> str:
    """Return the letters of a text, in a form in which those of any normalization are equal."""
    return to_compatibility_jamo(unicodedata.normalize("NFKD", INVISIBLE.sub("", text))).lower()


@functools.lru_cache(maxsize=1 << 16)
def _align(text: str, tokens: tuple[str, ...]) -> tuple[Span, ...]:
    """Align tokens with a text by their letters."""
    source = [(letter, index) for index, char in enumerate(text) for letter in _letters(char)]
    target = [
        (letter, index)
        for index, token in enumerate(tokens)
        for letter in _letters(token.lstrip(SPACE_SYMBOL))
    ]
    chars: list[list[int]] = [[] for _ in tokens]  # of each token
    for i, j in _pairs([letter for letter, _ in source], [letter for letter, _ in target]):
        chars[target[j][1]].append(source[i][1])
    spans, at = [], 0
    for token, found in zip(tokens, chars, strict=True):
        if not token.lstrip(SPACE_SYMBOL):
            spans.append(Span(at, at))
        elif found:
            spans.append(Span(found[0], found[-1] + 1))
            at = found[-1] + 1
        else:  # contracted away, such as 이 of 나다 (나+이+다)
            spans.append(Span(max(at - 1, 0), max(at, 1)))
    return tuple(spans)


def _pairs(source: Sequence[str], target: Sequence[str]) -> list[tuple[int, int]]:
    """Return the pairs of indices of equal letters, or of two vowels, in order."""
    shorter = min(len(source), len(target))
    before = after = 0  # equal letters at the beginning and at the end, usually all
    while before < shorter and source[before] == target[before]:
        before += 1
    while after < shorter - before and source[-1 - after] == target[-1 - after]:
        after += 1
    rows, columns = len(source) - before - after, len(target) - before - after
    middle = _aligned(source[before : before + rows], target[before : before + columns])
    return [
        *((i, i) for i in range(before)),
        *((before + i, before + j) for i, j in middle),
        *((before + rows + i, before + columns + i) for i in range(after)),
    ]


def _aligned(source: Sequence[str], target: Sequence[str]) -> list[tuple[int, int]]:
    """Return what ``_pairs`` does, in time O(len(source) * len(target))."""
    rows, columns = len(source), len(target)
    # costs[i][j]: the smallest cost of aligning source[i:] with target[j:].
    costs = [[rows - i + columns - j for j in range(columns + 1)] for i in range(rows + 1)]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            replaced = costs[i + 1][j + 1] + _cost(source[i], target[j])
            costs[i][j] = min(replaced, costs[i + 1][j] + 1, costs[i][j + 1] + 1)
    pairs, i, j = [], 0, 0
    while i < rows and j < columns:
        cost = _cost(source[i], target[j])
        if cost < 2 and costs[i][j] == costs[i + 1][j + 1] + cost:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif costs[i][j] == costs[i][j + 1] + 1:
            j += 1
        else:
            i += 1
    return pairs


def _cost(a: str, b: str) -> int:
    """Return the cost of replacing a letter: 2 is that of leaving out both."""
    if a == b:
        return 0
    return 1 if a in VOWELS and b in VOWELS else 2
