"""Metrics of classifiers against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from korlm.tasks.metrics.classification import (
    best_temperature,
    calibration_counts,
    confusion_counts,
    expected_calibration_error,
    macro_f1,
    nll_by_temperature,
)


def by_class(confusion: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return correct, predicted and actual texts of each class."""
    correct, predicted, actual = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    return correct.numpy(), predicted.numpy(), actual.numpy()


def test_counts_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(1)
    targets, predicted = torch.randint(4, (2, 200), generator=generator)
    counts = confusion_counts(predicted, targets, 5)  # class 4 never occurs
    assert (counts[:4, :4].numpy() == metrics.confusion_matrix(targets, predicted)).all()
    expected = metrics.f1_score(targets, predicted, average="macro")
    assert macro_f1(*by_class(counts)) == pytest.approx(expected)


def test_counts_by_hand() -> None:
    counts = confusion_counts(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]), 3)
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert macro_f1(*by_class(counts)) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_calibration_error_by_hand() -> None:
    probs = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7]])
    counts = calibration_counts(probs.log(), torch.tensor([0, 1, 1]))
    # Two texts with confidence 0.9, one of them right; one with 0.7, right.
    expected = (abs(1 - 1.8) + abs(1 - 0.7)) / 3
    assert expected_calibration_error(counts) == pytest.approx(expected)
    halves = [
        calibration_counts(probs[rows].log(), torch.tensor([0, 1, 1])[rows])
        for rows in (slice(0, 1), slice(1, 3))
    ]
    assert expected_calibration_error(halves[0] + halves[1]) == pytest.approx(expected)


def test_certainty_falls_into_the_last_bin() -> None:
    counts = calibration_counts(torch.tensor([[0.0, -torch.inf]]), torch.tensor([0]))
    assert counts[0, -1] == 1
    assert expected_calibration_error(counts) == 0


def test_the_temperature_restores_calibrated_logits() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(5000, 3, generator=generator)
    targets = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    assert best_temperature(nll_by_temperature(logits, targets)) == pytest.approx(1.0, rel=0.1)
    assert best_temperature(nll_by_temperature(4 * logits, targets)) == pytest.approx(4.0, rel=0.1)
