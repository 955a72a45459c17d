"""Find the joining operations that turn the morphs of an eojeol into its written form.

This is a search over the operations that the rules allow. A partial surface must agree with the
written eojeol except for its last characters, which later joins may change. If the rules alone
cannot produce the eojeol, one join may be a literal operation, which replaces the end of the
surface by what is written; it is then a candidate for the decision list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from korlm.detokenizers.kkma.decision_list import LITERAL, Join, find_operation
from korlm.detokenizers.kkma.rules import operations
from korlm.text.hangul import is_compatibility_jamo, is_syllable

_MAX_UNSTABLE = 3  # number of last characters of a surface that a later join may change


class Step(NamedTuple):
    """A join of a morph to a surface."""

    surface: str
    left: str
    right: str
    name: str
    after: str


class _Path(NamedTuple):
    """Operations that lead to a surface; the cost is the sum of their ranks (0: most likely)."""

    cost: int
    names: tuple[str, ...]


_Paths = dict[str, _Path]  # surface -> its cheapest path


def align(morphs: Sequence[str], written: str) -> list[Step] | None:
    """Return the joins that turn morphs into the written eojeol; None if the search finds none.

    >>> [step.name for step in align(["하", "었", "다"], "했다")]
    ['plain', 'ㅐ', 'plain']
    >>> [step.name for step in align(["울", "ㄴ들"], "운들네")]
    ['plain', '=울>운들네']
    """
    steps = list(_replay(morphs, None))
    if steps[-1].after == written:
        return steps
    stages: list[_Paths] = [{"": _Path(0, ())}]
    for number, right in enumerate(morphs):
        left = morphs[number - 1] if number else ""
        stages.append(_advance(stages[-1], left, right, written))
    path = stages[-1].get(written) or _path_with_literal(stages, morphs, written)
    return None if path is None else list(_replay(morphs, path.names))


def _advance(paths: _Paths, left: str, right: str, written: str) -> _Paths:
    """Return all surfaces after one more morph, each with its cheapest path."""
    advanced: _Paths = {}
    for surface, (cost, names) in paths.items():
        for rank, operation in enumerate(operations(surface, left, right)):
            after = operation.apply(surface)
            if not written.startswith(after[:-_MAX_UNSTABLE]):
                continue
            path = _Path(cost + rank, (*names, operation.name))
            if after not in advanced or path < advanced[after]:
                advanced[after] = path
    return advanced


def _path_with_literal(
    stages: Sequence[_Paths], morphs: Sequence[str], written: str
) -> _Path | None:
    """Return the cheapest path with one literal operation and rules otherwise; None without any."""
    best: _Path | None = None
    for number, paths in enumerate(stages[:-1]):
        for surface, (cost, names) in paths.items():
            for extra, name, after in _literals(surface, morphs[number], written):
                advanced: _Paths = {after: _Path(cost + extra, (*names, name))}
                for later in range(number + 1, len(morphs)):
                    advanced = _advance(advanced, morphs[later - 1], morphs[later], written)
                path = advanced.get(written)
                if path is not None and (best is None or path < best):
                    best = path
    return best


def _literals(surface: str, right: str, written: str) -> Iterator[tuple[int, str, str]]:
    """Yield (cost, name, new surface) of literal operations that agree with the written eojeol.

    Only Hangul is rewritten, as Kkma does. Rewriting at the second morph is preferred over
    rewriting the first one, because its context is finer: 저+의 -> 제 instead of 저 -> 제.
    """
    same = 0
    while same < min(len(surface), len(written)) and surface[same] == written[same]:
        same += 1
    old = surface[same:]
    if len(old) > _MAX_UNSTABLE or not _is_hangul(old + right):
        return
    expected = len(surface) + len(right)
    for end in range(max(same, expected - 2), min(len(written), expected + 2) + 1):
        if not _is_hangul(written[same:end]):
            continue
        differs = end == 0 or written[end - 1] != right[-1:]
        cost = 10 + 4 * len(old) + 4 * abs(expected - end) + 6 * differs + 4 * (not surface)
        yield cost, f"{LITERAL}{old}>{written[same:end]}", written[:end]


def _is_hangul(text: str) -> bool:
    return all(is_syllable(char) or is_compatibility_jamo(char) for char in text)


def _replay(morphs: Sequence[str], names: Sequence[str] | None) -> Iterator[Step]:
    """Yield the joins of morphs by the named operations; None: by the most likely ones."""
    surface = left = ""
    for number, right in enumerate(morphs):
        operation = operations(surface, left, right)[0]
        if names is not None and operation.name != names[number]:
            named = find_operation(names[number], Join(surface, left, right))
            assert named is not None
            operation = named
        after = operation.apply(surface)
        yield Step(surface, left, right, operation.name, after)
        surface, left = after, right
