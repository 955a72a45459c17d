"""Choose the completions that a user sees among the eojeols that a search found.

A search also finds what a model of morphemes leaves possible, but nobody writes: a stem without its
ending (먹), two eojeols without the space between them, a particle in the form for other words
(누구을), and the same eojeol with several punctuation marks.
"""

from __future__ import annotations

import unicodedata

from korlm.generation.eojeol_search import Node, SearchResult
from korlm.generation.lexicon import Lexicon
from korlm.text.hangul import is_syllable, keys_of, split_syllable

# Morphemes that follow stems, and those that follow nouns. 고, 는, 은 and 을 follow both.
ENDINGS = (
    *("다", "ㄴ다", "는다", "습니다", "ㅂ니다", "어", "아", "었", "았", "어요", "아요", "지", "게"),
    *("기", "면", "으면", "며", "으며", "던", "ㄴ", "ㄹ", "어서", "아서", "ㅁ", "음", "라", "니"),
)
NOMINAL = (
    *("의", "를", "에", "에서", "에게", "와", "과", "로", "으로", "도", "가", "이", "들", "만"),
    *("까지", "부터", "보다", "하", "이나", "나", "라는", "처럼"),
)

# Particles at the end of an eojeol; 는 is also an ending, which follows consonants (먹는).
AFTER_CONSONANT = {"을", "은", "이", "과", "으로", "이랑"}
AFTER_VOWEL = {"를", "와", "로", "랑"}


def choose(result: SearchResult, lexicon: Lexicon, typed: str) -> list[tuple[str, float]]:
    """Return the eojeols to show with their probabilities, the most probable first.

    Eojeols that differ only in punctuation are one, in the most probable form. Those that nobody
    writes are left out.
    """
    forms: dict[str, list[tuple[float, str]]] = {}
    for surface, (prob, node) in result.eojeols.items():
        if is_written(node, lexicon, typed):
            forms.setdefault(without_punctuation(surface), []).append((prob, surface))
    # Of equally probable ones, the first in the alphabet.
    best = [
        (min(variants, key=lambda form: (-form[0], form[1]))[1], sum(prob for prob, _ in variants))
        for variants in forms.values()
    ]
    return sorted(best, key=lambda candidate: (-candidate[1], candidate[0]))


def without_punctuation(surface: str) -> str:
    """Return an eojeol without the punctuation around it, or as it is if there is nothing else.

    >>> without_punctuation("먹어요!?"), without_punctuation("..."), without_punctuation("3.5점.")
    ('먹어요', '...', '3.5점')
    """
    first, last = 0, len(surface)
    while first < last and unicodedata.category(surface[first])[0] == "P":
        first += 1
    while last > first and unicodedata.category(surface[last - 1])[0] == "P":
        last -= 1
    return surface[first:last] or surface


def is_written(node: Node, lexicon: Lexicon, typed: str) -> bool:
    """Return whether somebody would write the eojeol of a node.

    ``node`` is expanded, the eojeol's most probable tokens; what ``typed`` contains is not judged.
    """
    path = [node]
    while path[-1].parent is not None and path[-1].parent.ids:
        path.append(path[-1].parent)
    path = [part for part in path if not _is_punctuation(lexicon.tokens[part.ids[-1]])]
    judged = path[:1] if lexicon.detokenizer.joins_morphemes else []
    if any(_is_stem(last, lexicon) or _has_wrong_form(last, lexicon) for last in judged):
        return False
    return not any(
        len(keys_of(part.parent.surface)) >= len(typed) and _is_space_likely(part, lexicon)
        for part in path
        if part.parent is not None and part.parent.ids
    )


def _is_punctuation(token: str) -> bool:
    return all(unicodedata.category(char)[0] == "P" for char in token)


def _is_space_likely(node: Node, lexicon: Lexicon) -> bool:
    """Return whether the detokenizer would write a space before the last token."""
    left, right = node.ids[-2:]
    return bool(lexicon.end_probs(lexicon.tokens[left])[right] > 0.5)


def _is_stem(node: Node, lexicon: Lexicon) -> bool:
    """Return whether endings follow the tokens more often than particles, or the end."""

    def share(morphemes: tuple[str, ...]) -> float:
        ids = [lexicon.id_of[morpheme] for morpheme in morphemes if morpheme in lexicon.id_of]
        return float(node.child_probs[ids].sum())

    return share(ENDINGS) > share(NOMINAL) + node.end_prob


def _has_wrong_form(node: Node, lexicon: Lexicon) -> bool:
    """Return whether the last token is a particle in the form for other words than the one before.

    After a contraction (누구+을 -> 누굴) it is not the end of the surface.
    """
    parent, particle = node.parent, lexicon.tokens[node.ids[-1]]
    if parent is None or not parent.ids or not node.surface.endswith(particle):
        return False
    before = node.surface[: len(node.surface) - len(particle)][-1:]
    if not is_syllable(before):
        return False
    tail = split_syllable(before).tail
    if not tail:
        return particle in AFTER_CONSONANT
    if particle == "로" and tail == "ㄹ":
        return False
    if particle in AFTER_VOWEL:
        return True
    if particle == "으로" and tail == "ㄹ":
        return True
    if particle == "가" and (subject := lexicon.id_of.get("이")) is not None:  # or a suffix: 사업가
        return bool(parent.child_probs[subject] > parent.child_probs[node.ids[-1]])
    return False
