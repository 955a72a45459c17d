"""Which operations turned morphs into the eojeol that was written: a search over the rules' ways.

A surface so far must agree with the eojeol but for its last characters, which may still change. If
no ways of the rules lead to the eojeol, one join may rewrite the end of the surface as it was
written; that literal operation is a candidate for the decision list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from korlm.detokenizers.kkma.decision_list import LITERAL, Join, operation_of
from korlm.detokenizers.kkma.rules import operations
from korlm.text.hangul import is_letter, is_syllable

_OPEN = 3  # characters at the end of a surface that later joins may change, by rules or literally


class Step(NamedTuple):
    """One join of an eojeol, and the name of the operation that was done."""

    surface: str
    left: str
    right: str
    name: str
    after: str


class _State(NamedTuple):
    """A way to a surface: how far its operations were from the likeliest ones, and which."""

    cost: int
    steps: tuple[str, ...]


_States = dict[str, _State]


def align(morphs: Sequence[str], written: str) -> list[Step] | None:
    """The joins that lead from the morphs to the eojeol; None if there are none.

    >>> [step.name for step in align(["하", "었", "다"], "했다")]
    ['plain', 'ㅐ', 'plain']
    >>> [step.name for step in align(["울", "ㄴ들"], "운들네")]
    ['plain', '=울>운들네']
    """
    steps = list(_replay(morphs, None))
    if steps[-1].after == written:
        return steps
    stages: list[_States] = [{"": _State(0, ())}]
    for number, right in enumerate(morphs):
        left = morphs[number - 1] if number else ""
        stages.append(_advance(stages[-1], left, right, written))
    whole = stages[-1].get(written)
    names = whole.steps if whole else _with_literal(stages, morphs, written)
    return None if names is None else list(_replay(morphs, names))


def _advance(states: _States, left: str, right: str, written: str) -> _States:
    """All surfaces after one more morph, with the best way to each."""
    found: _States = {}
    for surface, (cost, steps) in states.items():
        for rank, operation in enumerate(operations(surface, left, right)):
            after = operation.on(surface)
            if not written.startswith(after[:-_OPEN]):
                continue
            state = _State(cost + rank, (*steps, operation.name))
            if after not in found or state < found[after]:
                found[after] = state
    return found


def _with_literal(
    stages: Sequence[_States], morphs: Sequence[str], written: str
) -> tuple[str, ...] | None:
    """The names of the cheapest way with one literal operation among the rules'."""
    best: _State | None = None
    for number, states in enumerate(stages[:-1]):
        right = morphs[number]
        for surface, (cost, steps) in states.items():
            for extra, name, after in _literals(surface, right, written):
                there: _States = {after: _State(cost + extra, (*steps, name))}
                for later in range(number + 1, len(morphs)):
                    there = _advance(there, morphs[later - 1], morphs[later], written)
                state = there.get(written)
                if state is not None and (best is None or state < best):
                    best = state
    return best.steps if best else None


def _literals(surface: str, right: str, written: str) -> Iterator[tuple[int, str, str]]:
    """Rewritten ends that agree with the eojeol: cost, name, surface afterwards.

    Kkma rewrites Hangul alone. An eojeol's first morph had better be rewritten when the second one
    comes, which is a finer context: 저+의 -> 제, and not 저 -> 제.
    """
    same = 0
    while same < min(len(surface), len(written)) and surface[same] == written[same]:
        same += 1
    old = surface[same:]
    if len(old) > _OPEN or not _is_hangul(old + right):
        return
    expected = len(surface) + len(right)
    for end in range(max(same, expected - 2), min(len(written), expected + 2) + 1):
        if not _is_hangul(written[same:end]):
            continue
        differs = end == 0 or written[end - 1] != right[-1:]
        cost = 10 + 4 * len(old) + 4 * abs(expected - end) + 6 * differs + 4 * (not surface)
        yield cost, f"{LITERAL}{old}>{written[same:end]}", written[:end]


def _is_hangul(text: str) -> bool:
    return all(is_syllable(char) or is_letter(char) for char in text)


def _replay(morphs: Sequence[str], names: Sequence[str] | None) -> Iterator[Step]:
    """The joins of the operations of these names; None: of the rules' first ones."""
    surface = left = ""
    for number, right in enumerate(morphs):
        operation = operations(surface, left, right)[0]
        if names is not None and operation.name != names[number]:
            named = operation_of(names[number], Join(surface, left, right))
            assert named is not None
            operation = named
        after = operation.on(surface)
        yield Step(surface, left, right, operation.name, after)
        surface, left = after, right
