"""Train Kkma's detokenizer on tokenized text.

A detokenizer appends the morphs of an eojeol one by one; appending one is a join, which an
operation of ``rules.py`` does (되 + 었 -> 됐). Training aligns morphs with written eojeols, counts
which operation each join has had, and keeps the contexts in which the usual one is wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from korlm.detokenizers.kkma.alignment import align
from korlm.detokenizers.kkma.decision_list import NUM_LEVELS, Join, context_key, find_operation
from korlm.detokenizers.kkma.detokenizer import KkmaDetokenizer
from korlm.detokenizers.kkma.rules import operations
from korlm.detokenizers.kkma.spacing import SpacingModel
from korlm.detokenizers.kkma.training_data import AlignedTokens

JoinCounts = Mapping[Join, Mapping[str, int]]  # join -> operation name -> count

_MIN_GAIN = (1, 1, 1, 1, 1, 1, 2, 1, 1, 2)  # level -> smallest net number of corrected joins
_MAX_MORPHS = 20  # longest eojeol in morphs; longer ones are text without spaces


def train_detokenizer(tokens: AlignedTokens) -> KkmaDetokenizer:
    """Train the decision list and the spacing model."""
    decisions = learn_decisions(count_joins(tokens.count_eojeols()))
    return KkmaDetokenizer(decisions, SpacingModel.train(tokens))


def count_joins(
    eojeols: Mapping[tuple[tuple[str, ...], tuple[str, ...], str], int],
) -> dict[Join, Counter[str]]:
    """Count the operations of each join: join -> name of the operation -> count.

    Args:
        eojeols: (morphs, tags, written form) -> count. Those whose morphs cannot be aligned with
            the written form are left out.
    """
    counts: defaultdict[Join, Counter[str]] = defaultdict(Counter)
    for (morphs, tags, written), count in eojeols.items():
        steps = align(morphs, written) if len(morphs) <= _MAX_MORPHS else None
        if steps is None:
            continue
        left_tag = ""
        for (surface, left, right, name, _), tag in zip(steps, tags, strict=True):
            counts[Join(surface, left, right, left_tag, tag)][name] += count
            left_tag = tag
    return dict(counts)


def learn_decisions(counts: JoinCounts) -> dict[str, str]:
    """Learn a decision list, from coarse contexts to fine ones (``decision_list.py``).

    An entry names the most frequent operation of its context, if it corrects more joins than it
    breaks. Only contexts of joins that the coarser levels get wrong are considered.

    Returns:
        Key of a context -> name of an operation.
    """
    joins = list(counts)
    chosen = [operations(join.surface, join.left, join.right)[0].name for join in joins]
    by_right: defaultdict[str, list[int]] = defaultdict(list)
    for index, join in enumerate(joins):
        by_right[join.right].append(index)

    def is_wrong(index: int) -> bool:
        return any(name != chosen[index] for name in counts[joins[index]])

    wrong = set(filter(is_wrong, range(len(joins))))
    entries: dict[str, str] = {}

    def add_entry(level: int, key: str, members: Iterable[int]) -> None:
        totals: Counter[str] = Counter()
        for index in members:
            totals.update(counts[joins[index]])
        num_right = sum(counts[joins[index]].get(chosen[index], 0) for index in members)
        name, count = max(totals.items(), key=lambda total: (total[1], total[0]))
        if count - num_right >= _MIN_GAIN[level]:
            entries[key] = name
            for index in members:
                if find_operation(name, joins[index]) is not None:
                    chosen[index] = name

    for level in range(NUM_LEVELS):
        keys = {context_key(level, joins[index]) for index in wrong}
        rights = {joins[i].right for i in wrong} if level else by_right
        members: defaultdict[str, list[int]] = defaultdict(list)
        for index in (i for right in rights for i in by_right[right]):
            if (key := context_key(level, joins[index])) in keys:
                members[key].append(index)
        for key in sorted(members):
            add_entry(level, key, members[key])
            wrong.update(members[key])
        wrong = set(filter(is_wrong, wrong))
    return entries
