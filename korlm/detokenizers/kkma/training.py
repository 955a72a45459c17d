"""Learns a recomposer of Kkma's morphs from text and its analysis."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from korlm.detokenizers.kkma.alignment import align
from korlm.detokenizers.kkma.decision_list import LEVELS, Join, context, operation_of
from korlm.detokenizers.kkma.detokenizer import KkmaDetokenizer
from korlm.detokenizers.kkma.rules import operations
from korlm.detokenizers.kkma.spacing import SpacingModel
from korlm.detokenizers.kkma.training_data import AlignedTokens

Seen = Mapping[Join, Mapping[str, int]]


_GAIN = (1, 1, 1, 1, 1, 1, 2, 1, 1, 2)  # joins that an entry of each level must mend


_LONGEST = 20  # morphs of an eojeol that is learnt from; longer ones lack their blanks


def learn(samples: AlignedTokens) -> KkmaDetokenizer:
    """A recomposer that knows what stands in the samples."""
    decisions = learn_decisions(count_joins(samples.eojeols()))
    return KkmaDetokenizer(decisions, SpacingModel.train(samples))


def count_joins(
    eojeols: Mapping[tuple[tuple[str, ...], tuple[str, ...], str], int],
) -> dict[Join, Counter[str]]:
    """How often each operation stands at each join of the eojeols (morphs, tags, as written)."""
    seen: defaultdict[Join, Counter[str]] = defaultdict(Counter)
    for (morphs, tags, written), count in eojeols.items():
        steps = align(morphs, written) if len(morphs) <= _LONGEST else None
        if steps is None:
            continue
        left_tag = ""
        for (surface, left, right, name, _), tag in zip(steps, tags, strict=True):
            seen[Join(surface, left, right, left_tag, tag)][name] += count
            left_tag = tag
    return dict(seen)


def learn_decisions(seen: Seen) -> dict[str, str]:
    """The entries of a decision list, level by level.

    An entry names the commonest operation of its context, if that mends more joins than it spoils.
    Only contexts in which the levels before err are looked at, which are few.
    """
    joins = list(seen)
    now = [operations(join.surface, join.left, join.right)[0].name for join in joins]
    by_right: defaultdict[str, list[int]] = defaultdict(list)
    for index, join in enumerate(joins):
        by_right[join.right].append(index)
    wrong = {i for i, join in enumerate(joins) if any(name != now[i] for name in seen[join])}
    entries: dict[str, str] = {}
    for level in range(LEVELS):
        keys = {context(level, joins[index]) for index in wrong}
        rights = {joins[i].right for i in wrong} if level else by_right
        members: defaultdict[str, list[int]] = defaultdict(list)
        for index in (i for right in rights for i in by_right[right]):
            if (key := context(level, joins[index])) in keys:
                members[key].append(index)
        for key in sorted(members):
            _settle(level, entries, key, members[key], joins, seen, now)
            wrong.update(members[key])
        wrong = {i for i in wrong if any(name != now[i] for name in seen[joins[i]])}
    return entries


def _settle(
    level: int,
    entries: dict[str, str],
    key: str,
    members: Iterable[int],
    joins: list[Join],
    seen: Seen,
    now: list[str],
) -> None:
    """Makes an entry of a context if it pays, and notes what its members decide from then on."""
    votes: Counter[str] = Counter()
    for index in members:
        votes.update(seen[joins[index]])
    right = sum(seen[joins[index]].get(now[index], 0) for index in members)
    name, count = max(votes.items(), key=lambda vote: (vote[1], vote[0]))
    if count - right < _GAIN[level]:
        return
    entries[key] = name
    for index in members:
        if operation_of(name, joins[index]) is not None:
            now[index] = name
