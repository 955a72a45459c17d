"""Define spelling rules: how a morph may change the end of the eojeol that it is joined to.

``operations`` returns every operation that some rule allows, the most likely first; the decision
list (``decision_list.py``) chooses one. An operation cuts characters from the end of the surface
and appends others. Operation names are stored in files.

The rules are for Kkma's morphs, which are stems and endings in their base form: ending jamo are
separate (하+ㄴ -> 한), stems are uninflected (돕+아 -> 도와), the copula is always 이.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from korlm.detokenizers.kkma.irregulars import (
    BEFORE_COPULA,
    CONTRACTED,
    CONTRACTED_MORPHS,
    is_regular,
    reu_class,
)
from korlm.text.hangul import (
    Syllable,
    build,
    is_compatibility_jamo,
    is_syllable,
    split_syllable,
    tail_of,
)

MAX_CUT = 2  # number of last characters of a surface that rules look at and may change
COPULA = "이"

_SWAP = {"ㅏ": "ㅓ", "ㅓ": "ㅏ", "ㅕ": "ㅓ"}  # vowel harmony: alternative vowel of an ending
_MERGE = "ㅏㅓㅕㅐㅔㅖ"  # stem vowels that absorb the vowel of the ending
_CONTRACT = {"ㅗ": "ㅘ", "ㅜ": "ㅝ", "ㅣ": "ㅕ", "ㅚ": "ㅙ"}  # stem vowel -> vowel with the ending
_H_STEM = {"ㅑ": "ㅒ", "ㅕ": "ㅖ"}  # 하얗+아 -> 하얘, 허옇+어 -> 허예, else ㅐ: 그렇+어 -> 그래


class Operation(NamedTuple):
    """A joining operation: cut characters from the end of the surface, then append ``add``."""

    name: str
    cut: int
    add: str

    def apply(self, surface: str) -> str:
        """Return the new surface.

        >>> Operation("ㅂ>ㅘ", 1, "도와").apply("돕")
        '도와'
        """
        return surface[: len(surface) - self.cut] + self.add


def operations(surface: str, left: str, right: str) -> tuple[Operation, ...]:
    """Return the operations that may join a morph to a surface, the most likely first.

    Each returns a different surface.

    ``left`` is the last morph of the surface; both are empty at the beginning of an eojeol.

    >>> [o.apply("흐르") for o in operations("흐르", "흐르", "어")]
    ['흘러', '흐러', '흘라', '흐라', '흐르러', '흐르어', '흐르아']
    """
    if (
        left != COPULA
        and right not in CONTRACTED_MORPHS
        and not _may_alter(surface[-1:], right[:1])
    ):
        return (Operation("plain", 0, right),)
    return _operations(surface[-MAX_CUT:], left == COPULA, right)


@lru_cache(maxsize=1 << 16)
def _may_alter(last: str, first: str) -> bool:
    """Return True if a rule other than concatenation may apply between two characters."""
    if not is_syllable(last):
        return False
    if not is_syllable(first):
        return is_bare_ending(first)
    head, tail = split_syllable(first), split_syllable(last).tail
    if head.lead == "ㅇ":
        return head.vowel in "ㅏㅓㅕㅡ" or (first == "오" and tail == "ㄹ")
    return first in ("는", "를") or (tail in ("ㄹ", "ㅎ") and head.lead in "ㄴㅅ")


@lru_cache(maxsize=1 << 16)
def _operations(end: str, is_copula: bool, right: str) -> tuple[Operation, ...]:
    """Return the operations for a surface with this end; ``is_copula``: the last morph is 이."""
    unique: dict[tuple[int, str], Operation] = {}
    plain = Operation("plain", 0, right)
    for name, cut, add in (*_inflected(end, is_copula, right), plain, *_contracted(end, right)):
        if cut and add[:1] == end[len(end) - cut]:  # 영화+이+에요 -> 예요: 화 stays
            cut, add = cut - 1, add[1:]
        unique.setdefault((cut, add), Operation(name, cut, add))
    return tuple(unique.values())


_CONTRACTED_STEMS = {stem for stem, _ in CONTRACTED}

# One morph for each rule that may change the surface before it.
_PROBES = ("ㄴ", "아", "어", "여", "았", "으니", "은", "니", "는", "를", "에요", *CONTRACTED_MORPHS)


def max_cut(surface: str, left: str) -> int:
    """Return how many of the last characters of a surface the rules may change.

    >>> max_cut("돕", "돕"), max_cut("흐르", "흐르"), max_cut("먹", "먹")
    (1, 2, 0)
    """
    end, is_copula = surface[-MAX_CUT:], left == COPULA
    if not is_copula and end[-1:] != "르" and end not in _CONTRACTED_STEMS:
        end = end[-1:]  # no rule looks at the character before it
    return _max_cut(end, is_copula)


@lru_cache(maxsize=1 << 16)
def _max_cut(end: str, is_copula: bool) -> int:
    return max(
        operation.cut for probe in _PROBES for operation in _operations(end, is_copula, probe)
    )


def _inflected(end: str, is_copula: bool, right: str) -> Iterator[Operation]:
    """Yield the operations of the inflection rules."""
    last = end[-1:]
    if not is_syllable(last) or not right:
        return
    if is_copula and last == COPULA:
        yield from _copula(end, right)
        yield from _contracted_copula(end, right)
    if is_bare_ending(right):
        yield from _bare_ending(end, split_syllable(last), right)
    elif is_syllable(right[0]):
        head = split_syllable(right[0])
        if head.lead == "ㅇ" and head.vowel in _SWAP and head.tail in ("", "ㅆ"):
            yield from _vowel_ending(end, split_syllable(last), head, right[1:])
        elif head.lead == "ㅇ" and head.vowel == "ㅡ":
            yield from _eu_ending(split_syllable(last), head, right)
        else:
            yield from _consonant_ending(split_syllable(last), head, right)


def _contracted(end: str, right: str) -> Iterator[Operation]:
    """Yield the contractions of single words."""
    if right in CONTRACTED_MORPHS:
        for stem in (end, end[-1:]):
            for written in CONTRACTED.get((stem, right), ()):
                yield Operation(f"{stem}>{written}", len(stem), written)


def is_bare_ending(morph: str) -> bool:
    """Return True if a morph starts with a consonant that becomes a syllable's final consonant.

    >>> is_bare_ending("ㅂ니다"), is_bare_ending("ㄴ"), is_bare_ending("ㄴㄴ"), is_bare_ending("ㅋ")
    (True, True, False, False)
    """
    return morph[:1] in ("ㄴ", "ㄹ", "ㅁ", "ㅂ") and not is_compatibility_jamo(morph[1:2])


def _copula(end: str, right: str) -> Iterator[Operation]:
    """Yield operations of the copula 이: dropped after an open syllable, or contracted."""
    before = end[-2:-1]
    drops = is_syllable(before) and not tail_of(before)
    if is_bare_ending(right):
        yield Operation("tail", 1, build("ㅇ", "ㅣ", right[0]) + right[1:])
        if drops:
            lead, vowel, _ = split_syllable(before)
            yield Operation("copula", 2, build(lead, vowel, right[0]) + right[1:])
        return
    if right[0] == "에" and drops:  # 이+에요 -> 예요
        yield Operation("예", 1, "예" + right[1:])
    head = split_syllable(right[0]) if is_syllable(right[0]) else None
    is_vowel = head is not None and head.lead == "ㅇ" and head.vowel in _SWAP
    if head is not None and head.lead == "ㅇ" and head.vowel == "ㅓ":  # 이+었 -> 였
        short = Operation("ㅕ", 1, build("ㅇ", "ㅕ", head.tail) + right[1:])
        yield from (short,) if drops else (Operation("plain", 0, right), short)
    if drops and not is_vowel:
        yield Operation("copula", 1, right)
    yield Operation("plain", 0, right)
    yield Operation("copula", 1, right)
    if right[0] == "에":
        yield Operation("예", 1, "예" + right[1:])


def _contracted_copula(end: str, right: str) -> Iterator[Operation]:
    """Yield contractions of the copula with the word before it."""
    if (short := BEFORE_COPULA.get(end[:-1])) is not None:
        add = short + right
        if is_bare_ending(right):
            add = build(*split_syllable(short)[:2], right[0]) + right[1:]
        yield Operation(f"{end}>{short}", 2, add)


def _bare_ending(end: str, last: Syllable, right: str) -> Iterator[Operation]:
    """Yield operations of endings in bare ㄴ, ㄹ, ㅁ or ㅂ: 하+ㄴ, 알+ㅂ니다, 돕+ㄹ, 짓+ㅁ."""
    (lead, vowel, tail), bare, rest = last, right[0], right[1:]
    eu = build("ㅇ", "ㅡ", bare) + rest
    if not tail:
        yield Operation("tail", 1, build(lead, vowel, bare) + rest)
        return
    if is_regular(end, tail):
        yield Operation("으", 0, eu)
    if tail == "ㄹ":
        yield Operation("-ㄹ", 1, build(lead, vowel, "ㄻ" if bare == "ㅁ" else bare) + rest)
    elif tail == "ㅎ":
        yield Operation("-ㅎ", 1, build(lead, vowel, bare) + rest)
    elif tail == "ㅂ":
        yield Operation("ㅂ>ㅜ", 1, build(lead, vowel) + build("ㅇ", "ㅜ", bare) + rest)
    elif tail == "ㅅ":
        yield Operation("-ㅅ", 1, build(lead, vowel) + eu)
    elif tail == "ㄷ":
        yield Operation("ㄷ>ㄹ", 1, build(lead, vowel, "ㄹ") + eu)
    yield Operation("으", 0, eu)
    if tail == "ㅅ":  # 것+ㄹ -> 걸
        yield Operation("for tail", 1, build(lead, vowel, bare) + rest)


def _vowel_ending(end: str, last: Syllable, head: Syllable, rest: str) -> Iterator[Operation]:
    """Yield operations of endings in 아, 어 or 여: contraction, irregular stems, vowel harmony."""
    lead, vowel, tail = last
    same, other = head.vowel, _SWAP[head.vowel]

    def operation(name: str, cut: int, start: str, lead: str, vowel: str) -> Operation:
        return Operation(name, cut, start + build(lead, vowel, head.tail) + rest)

    if not tail:
        if vowel == "ㅡ":
            yield from _eu_stem(end, last, head, rest)
        elif end[-1] == "하":
            if same == "ㅕ":  # 하+여: Kkma analyzes the contracted form as 하+어
                yield Operation("plain", 0, build(*head) + rest)
            yield operation("ㅐ", 1, "", lead, "ㅐ")
            yield operation("ㅕ", 0, "", "ㅇ", "ㅕ")
            yield operation("merge", 1, "", lead, vowel)
        elif end[-1] == "푸":
            yield operation("ㅓ", 1, "", lead, "ㅓ")
        elif vowel in _MERGE:
            yield operation("merge", 1, "", lead, vowel)
        if vowel in _CONTRACT:
            yield operation("contract", 1, "", lead, _CONTRACT[vowel])
    else:
        if is_regular(end, tail):
            yield operation("plain", 0, "", "ㅇ", same)
        yield from _irregular(end, last, head, operation)
    yield operation("plain", 0, "", "ㅇ", same)
    yield operation("swap", 0, "", "ㅇ", other)
    if tail == "ㄹ":  # 말+아 -> 마
        yield operation("-ㄹ", 1, "", lead, vowel)


def _irregular(
    end: str,
    last: Syllable,
    head: Syllable,
    operation: Callable[[str, int, str, str, str], Operation],
) -> Iterator[Operation]:
    """Yield operations of stems whose final consonant changes before a vowel."""
    lead, vowel, tail = last
    if tail == "ㅂ":
        glides = ("ㅘ", "ㅝ") if end[-1] in "돕곱" else ("ㅝ", "ㅘ")
        for glide in glides:
            yield operation(f"ㅂ>{glide}", 1, build(lead, vowel), "ㅇ", glide)
    elif tail == "ㅎ":
        yield operation("-ㅎ", 1, "", lead, _H_STEM.get(vowel, "ㅐ"))
    elif tail in ("ㅅ", "ㄷ"):
        name, start = (
            ("-ㅅ", build(lead, vowel)) if tail == "ㅅ" else ("ㄷ>ㄹ", build(lead, vowel, "ㄹ"))
        )
        yield operation(name, 1, start, "ㅇ", head.vowel)
        yield operation(f"{name}, swap", 1, start, "ㅇ", _SWAP[head.vowel])


def _eu_stem(end: str, last: Syllable, head: Syllable, rest: str) -> Iterator[Operation]:
    """Yield operations of stems in ㅡ: 쓰+어 -> 써, 모르+아 -> 몰라, 푸르+어 -> 푸르러."""
    before = end[-2:-1]
    candidates: list[Operation] = []
    for vowel, swapped in ((head.vowel, ""), (_SWAP[head.vowel], ", swap")):
        ending = build(last.lead, vowel, head.tail) + rest
        if end[-1] == "르" and is_syllable(before) and not tail_of(before):
            doubled = build(*split_syllable(before)[:2], "ㄹ") + ending
            candidates.append(Operation("르" + swapped, 2, doubled))
        candidates.append(Operation("-ㅡ" + swapped, 1, ending))
    if end[-1] == "르":
        candidates.append(Operation("러", 0, build("ㄹ", "ㅓ", head.tail) + rest))
        first = reu_class(end)
        candidates.sort(key=lambda operation: operation.name != first)
    yield from candidates


def _eu_ending(last: Syllable, head: Syllable, right: str) -> Iterator[Operation]:
    """Yield operations of morphs in 으, which is dropped after an open syllable or ㄹ."""
    lead, vowel, tail = last
    rest = right[1:]
    if tail == "ㄹ" and not head.tail:
        yield Operation("-으", 0, rest)
    yield Operation("plain", 0, right)
    if tail == "ㅂ":
        yield Operation("ㅂ>ㅜ", 1, build(lead, vowel) + build("ㅇ", "ㅜ", head.tail) + rest)
    elif tail == "ㅅ":
        yield Operation("-ㅅ", 1, build(lead, vowel) + right)
    elif tail == "ㄷ":
        yield Operation("ㄷ>ㄹ", 1, build(lead, vowel, "ㄹ") + right)
    if tail in ("", "ㄹ", "ㅎ", "ㅅ"):  # 가+은 -> 간, 그렇+으면 -> 그러면, 것+을 -> 걸
        yield Operation("for tail", 1, build(lead, vowel, head.tail) + rest)


def _consonant_ending(last: Syllable, head: Syllable, right: str) -> Iterator[Operation]:
    """Yield operations of other endings: ㄹ and ㅎ drop before ㄴ, ㅅ, 오; 나+는 -> 난."""
    lead, vowel, tail = last
    drops = head.lead in "ㄴㅅ" or right[0] == "오"
    if tail == "ㄹ" and drops:
        yield Operation("-ㄹ", 1, build(lead, vowel) + right)
    yield Operation("plain", 0, right)
    if tail == "ㅎ" and head.lead == "ㄴ":
        yield Operation("-ㅎ", 1, build(lead, vowel) + right)
    if right in ("는", "를") and tail in ("", "ㅅ"):  # 나+는 -> 난
        yield Operation("short", 1, build(lead, vowel, head.tail))
