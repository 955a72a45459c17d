"""Metrics of tagging: against seqeval, and by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest

from korlm.tasks.metrics.tagging import accuracy_counts, scores_of, spacing_counts, span_counts
from korlm.text.label_schemes import Scheme, label_set, labels_of, spans_of

TYPES = ["A", "B", "C"]


def random_labels(rng: random.Random, size: int) -> list[str]:
    """Return valid labels of BIO: those of the repaired spans of random ones."""
    labels = [rng.choice(label_set(TYPES, Scheme.bio)) for _ in range(size)]
    return labels_of(spans_of(labels), size)


def test_spans_against_seqeval() -> None:
    metrics = pytest.importorskip("seqeval.metrics")
    scheme = pytest.importorskip("seqeval.scheme")
    rng = random.Random(3)
    gold = [random_labels(rng, rng.randint(1, 30)) for _ in range(50)]
    predicted = [
        labels_of(spans_of([a if rng.random() < 0.7 else b for a, b in pairs]), len(pairs))
        for pairs in (list(zip(line, random_labels(rng, len(line)), strict=True)) for line in gold)
    ]
    counts = sum(
        span_counts(spans_of(a), spans_of(b), TYPES) for a, b in zip(gold, predicted, strict=True)
    )
    assert isinstance(counts, np.ndarray)
    options = {"mode": "strict", "scheme": scheme.IOB2}
    report = metrics.classification_report(gold, predicted, output_dict=True, **options)
    for index, kind in enumerate([*TYPES, "micro avg"]):
        scores = scores_of(counts[index] if index < len(TYPES) else counts)
        expected = report[kind]
        assert scores.precision == pytest.approx(expected["precision"])
        assert scores.recall == pytest.approx(expected["recall"])
        assert scores.f1 == pytest.approx(expected["f1-score"])
        assert scores.support == expected["support"]


def test_spans_by_hand() -> None:
    gold = spans_of(["B-A", "I-A", "O", "B-B", "B-C"])
    predicted = spans_of(["B-A", "O", "O", "B-B", "B-A"])
    counts = span_counts(gold, predicted, TYPES)
    assert counts.tolist() == [[0, 2, 1], [1, 1, 1], [0, 0, 1]]
    assert scores_of(counts)[:3] == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert scores_of(np.zeros((0, 3), np.int64)).f1 == 0


def test_accuracy() -> None:
    assert accuracy_counts("abc", "abd", [True, False, True]).tolist() == [2, 3, 1, 2]


def test_spacing() -> None:
    gold, predicted = [0, 0, 1, 0, 1, 0], [0, 0, 1, 1, 1, 0]  # 가나 다라 마바, 가나 다 라 마바
    assert spacing_counts(gold, gold).tolist() == [6, 6, 3, 3, 3]
    assert spacing_counts(gold, predicted).tolist() == [5, 6, 2, 4, 3]
    assert spacing_counts([], []).tolist() == [0] * 5
