"""Rules of Korean spelling: what a morph may do to the end of the word that it is joined to.

``operations`` gives every way of joining that some rule allows, the likeliest first; which one it
is, counts decide (``decision_list.py``). An operation takes a few characters off the
end of what is written so far and adds others. The names of operations are stored in files.

The rules are those of Kkma's morphs, which are stems and endings in their basic form: ending jamo
stand alone (하+ㄴ -> 한), irregular stems are regular (돕+아 -> 도와), the copula is always 이.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from korlm.detokenizers.kkma.irregulars import (
    BEFORE_COPULA,
    RIGHTS,
    SHRUNK,
    class_of_reu,
    is_regular,
)
from korlm.text.hangul import Syllable, build, is_letter, is_syllable, split, tail_of

REACH = 2  # characters at the end of a surface that rules look at, and the most that they change


COPULA = "이"


_SWAP = {"ㅏ": "ㅓ", "ㅓ": "ㅏ", "ㅕ": "ㅓ"}  # what else an ending's vowel may become


_MERGE = "ㅏㅓㅕㅐㅔㅖ"  # vowels that swallow the ending's


_CONTRACT = {"ㅗ": "ㅘ", "ㅜ": "ㅝ", "ㅣ": "ㅕ", "ㅚ": "ㅙ"}


_H_STEM = {"ㅑ": "ㅒ", "ㅕ": "ㅖ"}  # 하얗+아 -> 하얘, 허옇+어 -> 허예; else ㅐ: 그렇+어 -> 그래


class Operation(NamedTuple):
    """A way of joining: ``cut`` characters go, ``add`` comes."""

    name: str
    cut: int
    add: str

    def on(self, surface: str) -> str:
        """The surface afterwards.

        >>> Operation("ㅂ>ㅘ", 1, "도와").on("돕")
        '도와'
        """
        return surface[: len(surface) - self.cut] + self.add


def operations(surface: str, left: str, right: str) -> tuple[Operation, ...]:
    """The ways of joining a morph to a surface, the likeliest first; each writes something else.

    Args:
        surface: the eojeol so far.
        left: the morph that it ends with, in its basic form; empty at the beginning.
        right: the morph that is added.

    >>> [o.on("흐르") for o in operations("흐르", "흐르", "어")]
    ['흘러', '흐러', '흘라', '흐라', '흐르러', '흐르어', '흐르아']
    """
    if left != COPULA and right not in RIGHTS and not _touches(surface[-1:], right[:1]):
        return (Operation("plain", 0, right),)
    return _operations(surface[-REACH:], left == COPULA, right)


@lru_cache(maxsize=1 << 16)
def _touches(last: str, first: str) -> bool:
    """Whether anything but writing one after the other may happen between two characters."""
    if not is_syllable(last):
        return False
    if not is_syllable(first):
        return is_bare_ending(first)
    head, tail = split(first), split(last).tail
    if head.lead == "ㅇ":
        return head.vowel in "ㅏㅓㅕㅡ" or (first == "오" and tail == "ㄹ")
    return first in ("는", "를") or (tail in ("ㄹ", "ㅎ") and head.lead in "ㄴㅅ")


@lru_cache(maxsize=1 << 16)
def _operations(end: str, is_copula: bool, right: str) -> tuple[Operation, ...]:
    found: dict[tuple[int, str], Operation] = {}
    ways = (*_ways(end, is_copula, right), Operation("plain", 0, right), *_shrunk(end, right))
    for operation in ways:
        name, cut, add = operation
        if cut and add[:1] == end[len(end) - cut]:  # 영화+이+에요 -> 예요: 화 stays
            cut, add = cut - 1, add[1:]
        found.setdefault((cut, add), Operation(name, cut, add))
    return tuple(found.values())


# One morph for each way in which the rules may change what stands before it.
_PROBES = ("ㄴ", "아", "어", "여", "았", "으니", "은", "니", "는", "를", "에요", *RIGHTS)


def reach(surface: str, left: str) -> int:
    """How many of the last characters of a surface the rules may change.

    >>> reach("돕", "돕"), reach("흐르", "흐르"), reach("먹", "먹")
    (1, 2, 0)
    """
    return _reach(surface[-REACH:], left == COPULA)


@lru_cache(maxsize=1 << 16)
def _reach(end: str, is_copula: bool) -> int:
    return max(way.cut for probe in _PROBES for way in _operations(end, is_copula, probe))


def _ways(end: str, is_copula: bool, right: str) -> Iterator[Operation]:
    last = end[-1:]
    if not is_syllable(last) or not right:
        return
    if is_copula and last == COPULA:
        yield from _copula(end, right)
        yield from _shrunk_copula(end, right)
    if is_bare_ending(right):
        yield from _bare(end, split(last), right)
    elif is_syllable(right[0]):
        head = split(right[0])
        if head.lead == "ㅇ" and head.vowel in _SWAP and head.tail in ("", "ㅆ"):
            yield from _vowel(end, split(last), head, right[1:])
        elif head.lead == "ㅇ" and head.vowel == "ㅡ":
            yield from _eu(split(last), head, right)
        else:
            yield from _consonant(split(last), head, right)


def _shrunk(end: str, right: str) -> Iterator[Operation]:
    """Words with a way of their own."""
    if right in RIGHTS:
        for stem in (end, end[-1:]):
            for written in SHRUNK.get((stem, right), ()):
                yield Operation(f"{stem}>{written}", len(stem), written)


def is_bare_ending(morph: str) -> bool:
    """Whether a morph begins with a consonant that goes under the syllable before it.

    >>> is_bare_ending("ㅂ니다"), is_bare_ending("ㄴ"), is_bare_ending("ㄴㄴ"), is_bare_ending("ㅋ")
    (True, True, False, False)
    """
    return morph[:1] in ("ㄴ", "ㄹ", "ㅁ", "ㅂ") and not is_letter(morph[1:2])


def _copula(end: str, right: str) -> Iterator[Operation]:
    """이 is dropped after an open syllable, or makes one syllable with what follows."""
    before = end[-2:-1]
    drops = is_syllable(before) and not tail_of(before)
    if is_bare_ending(right):
        yield Operation("tail", 1, build("ㅇ", "ㅣ", right[0]) + right[1:])
        if drops:
            lead, vowel, _ = split(before)
            yield Operation("copula", 2, build(lead, vowel, right[0]) + right[1:])
        return
    if right[0] == "에" and drops:  # 이+에요 -> 예요
        yield Operation("예", 1, "예" + right[1:])
    head = split(right[0]) if is_syllable(right[0]) else None
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


def _shrunk_copula(end: str, right: str) -> Iterator[Operation]:
    """Words before the copula that swallow it."""
    if (short := BEFORE_COPULA.get(end[:-1])) is not None:
        add = short + right
        if is_bare_ending(right):
            add = build(*split(short)[:2], right[0]) + right[1:]
        yield Operation(f"{end}>{short}", 2, add)


def _bare(end: str, last: Syllable, right: str) -> Iterator[Operation]:
    """Endings that begin with ㄴ, ㄹ, ㅁ or ㅂ: 하+ㄴ, 알+ㅂ니다, 돕+ㄹ, 짓+ㅁ."""
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


def _vowel(end: str, last: Syllable, head: Syllable, rest: str) -> Iterator[Operation]:
    """Endings in 아, 어 or 여: contractions, irregular stems, then what harmony may change."""
    lead, vowel, tail = last
    same, other = head.vowel, _SWAP[head.vowel]

    def written(name: str, cut: int, start: str, lead: str, vowel: str) -> Operation:
        return Operation(name, cut, start + build(lead, vowel, head.tail) + rest)

    if not tail:
        if vowel == "ㅡ":
            yield from _eu_stem(end, last, head, rest)
        elif end[-1] == "하":
            if same == "ㅕ":  # 하+여: Kkma writes 하+어 where it is contracted
                yield Operation("plain", 0, build(*head) + rest)
            yield written("ㅐ", 1, "", lead, "ㅐ")
            yield written("ㅕ", 0, "", "ㅇ", "ㅕ")
            yield written("merge", 1, "", lead, vowel)
        elif end[-1] == "푸":
            yield written("ㅓ", 1, "", lead, "ㅓ")
        elif vowel in _MERGE:
            yield written("merge", 1, "", lead, vowel)
        if vowel in _CONTRACT:
            yield written("contract", 1, "", lead, _CONTRACT[vowel])
    else:
        if is_regular(end, tail):
            yield written("plain", 0, "", "ㅇ", same)
        yield from _irregular(end, last, head, written)
    yield written("plain", 0, "", "ㅇ", same)
    yield written("swap", 0, "", "ㅇ", other)
    if tail == "ㄹ":  # 말+아 -> 마
        yield written("-ㄹ", 1, "", lead, vowel)


def _irregular(
    end: str,
    last: Syllable,
    head: Syllable,
    written: Callable[[str, int, str, str, str], Operation],
) -> Iterator[Operation]:
    """Stems whose last consonant changes before a vowel."""
    lead, vowel, tail = last
    if tail == "ㅂ":
        glides = ("ㅘ", "ㅝ") if end[-1] in "돕곱" else ("ㅝ", "ㅘ")
        for glide in glides:
            yield written(f"ㅂ>{glide}", 1, build(lead, vowel), "ㅇ", glide)
    elif tail == "ㅎ":
        yield written("-ㅎ", 1, "", lead, _H_STEM.get(vowel, "ㅐ"))
    elif tail in ("ㅅ", "ㄷ"):
        name, start = (
            ("-ㅅ", build(lead, vowel)) if tail == "ㅅ" else ("ㄷ>ㄹ", build(lead, vowel, "ㄹ"))
        )
        yield written(name, 1, start, "ㅇ", head.vowel)
        yield written(f"{name}, swap", 1, start, "ㅇ", _SWAP[head.vowel])


def _eu_stem(end: str, last: Syllable, head: Syllable, rest: str) -> Iterator[Operation]:
    """Stems in ㅡ: 쓰+어 -> 써, 모르+아 -> 몰라, 따르+아 -> 따라, 푸르+어 -> 푸르러."""
    before = end[-2:-1]
    found: list[Operation] = []
    for vowel, swapped in ((head.vowel, ""), (_SWAP[head.vowel], ", swap")):
        ending = build(last.lead, vowel, head.tail) + rest
        if end[-1] == "르" and is_syllable(before) and not tail_of(before):
            doubled = build(*split(before)[:2], "ㄹ") + ending
            found.append(Operation("르" + swapped, 2, doubled))
        found.append(Operation("-ㅡ" + swapped, 1, ending))
    if end[-1] == "르":
        found.append(Operation("러", 0, build("ㄹ", "ㅓ", head.tail) + rest))
        first = class_of_reu(end)
        found.sort(key=lambda operation: operation.name != first)
    yield from found


def _eu(last: Syllable, head: Syllable, right: str) -> Iterator[Operation]:
    """Endings and particles in 으: 으 goes after an open syllable or ㄹ, and stays elsewhere."""
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


def _consonant(last: Syllable, head: Syllable, right: str) -> Iterator[Operation]:
    """Endings in a consonant: ㄹ and ㅎ go before ㄴ, ㅅ and 오; particles that shrink (난, 날)."""
    lead, vowel, tail = last
    drops = head.lead in "ㄴㅅ" or right[0] == "오"
    if tail == "ㄹ" and drops:
        yield Operation("-ㄹ", 1, build(lead, vowel) + right)
    yield Operation("plain", 0, right)
    if tail == "ㅎ" and head.lead == "ㄴ":
        yield Operation("-ㅎ", 1, build(lead, vowel) + right)
    if right in ("는", "를") and tail in ("", "ㅅ"):  # 나+는 -> 난
        yield Operation("short", 1, build(lead, vowel, head.tail))
