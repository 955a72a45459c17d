"""Metrics of tagging: F1 of spans, accuracy of units, accuracy and word F1 of word spacing.

Counts are arrays that can be added over lines and processes; the scores are computed from the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from korlm.text.label_schemes import LabeledSpan

Counts = npt.NDArray[np.int64]


class Scores(NamedTuple):
    """Precision, recall and F1, each 0 if its denominator is 0; ``support``: spans of the gold."""

    precision: float
    recall: float
    f1: float
    support: int


def span_counts(
    gold: Iterable[LabeledSpan], predicted: Iterable[LabeledSpan], types: Sequence[str]
) -> Counts:
    """Count the spans of one line that are correct, predicted and gold, for each of K types.

    A span is correct if begin, end and type are those of a gold span. With valid labels this is
    the strict mode of seqeval.

    Returns:
        int64 (K, 3): correct, predicted, gold.
    """
    index = {kind: row for row, kind in enumerate(types)}
    gold, predicted = set(gold), set(predicted)
    counts = np.zeros((len(types), 3), np.int64)
    for column, spans in enumerate((gold & predicted, predicted, gold)):
        for span in spans:
            if span.label in index:
                counts[index[span.label], column] += 1
    return counts


def scores_of(counts: Counts) -> Scores:
    """Return the scores of counts (correct, predicted, gold), or of their sum over types (K, 3).

    >>> scores_of(np.array([2, 4, 2]))
    Scores(precision=0.5, recall=1.0, f1=0.6666666666666666, support=2)
    """
    correct, predicted, gold = (int(n) for n in counts.reshape(-1, 3).sum(0))
    precision = correct / predicted if predicted else 0.0
    recall = correct / gold if gold else 0.0
    f1 = 2 * correct / (predicted + gold) if correct else 0.0
    return Scores(precision, recall, f1, gold)


def accuracy_counts(
    gold: Sequence[object], predicted: Sequence[object], is_unknown: Sequence[bool]
) -> Counts:
    """Count the units of one line that are correct.

    Returns:
        int64 (4,): correct and all units, correct and all units that the training split lacks.
    """
    correct = np.fromiter((a == b for a, b in zip(gold, predicted, strict=True)), bool, len(gold))
    unknown = np.array(is_unknown, bool)
    return np.array([correct.sum(), len(gold), (correct & unknown).sum(), unknown.sum()], np.int64)


def spacing_counts(gold: Sequence[int], predicted: Sequence[int]) -> Counts:
    """Count the characters and words of one line whose spacing is correct.

    A character is correct if a space precedes it in both texts or in none; the first one is always
    correct. A word is correct if both its first and its last character are those of a gold word.
    Labels are 1 for each character (blanks are no characters) that a space precedes, else 0.

    Returns:
        int64 (5,): correct and all characters; correct, predicted and gold words.

    >>> spacing_counts([0, 0, 1, 0], [0, 0, 0, 0]).tolist()
    [3, 4, 0, 1, 2]
    """
    size = len(gold)
    if not size:
        return np.zeros(5, np.int64)
    begins = []
    for labels in (gold, predicted):
        is_begin = np.array(labels, bool)
        is_begin[0] = True
        begins.append(is_begin)
    correct = int((begins[0] == begins[1]).sum())
    gold_words, predicted_words = map(_words, begins)
    common = len(gold_words & predicted_words)
    return np.array([correct, size, common, len(predicted_words), len(gold_words)], np.int64)


def _words(is_begin: npt.NDArray[np.bool_]) -> set[tuple[int, int]]:
    """Return begin and end of each word."""
    begins = np.flatnonzero(is_begin).tolist()
    return set(zip(begins, [*begins[1:], len(is_begin)], strict=True))
