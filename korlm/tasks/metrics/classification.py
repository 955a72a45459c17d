"""Metrics of classifiers, from counts that can be added over batches and processes.

Axes: N examples, C classes, K bins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]

NUM_BINS = 15  # of confidences, as in Guo et al. 2017


def confusion_counts(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Return how often each class was predicted for each class, int64 (N,), (N,) -> (C, C).

    Rows are targets, columns predictions.

    >>> confusion_counts(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    index = targets * num_classes + predicted
    return torch.bincount(index, minlength=num_classes**2).view(num_classes, num_classes)


def macro_f1(correct: Floats, predicted: Floats, actual: Floats) -> float:
    """Return the mean of the classes' F1 from numbers of texts of each class, (C,).

    A class that is neither actual nor predicted does not count, as in scikit-learn.

    >>> macro_f1(np.array([2, 1]), np.array([3, 1]), np.array([2, 2])).__round__(4)
    0.7333
    """
    total = predicted + actual
    occurs = total > 0
    return float(np.mean(2 * correct[occurs] / total[occurs])) if occurs.any() else 0.0


def calibration_counts(log_probs: Tensor, targets: Tensor) -> Tensor:
    """Return sums over equally wide bins of the confidence, the largest probability.

    Returns:
        float64 (3, K): examples, correct examples, and the sum of confidences of each bin.
    """
    confidence, predicted = log_probs.double().exp().max(-1)
    bins = (confidence * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    values = torch.stack([torch.ones_like(confidence), predicted == targets, confidence])
    return torch.zeros(3, NUM_BINS, dtype=torch.float64, device=values.device).index_add_(
        1, bins, values
    )


def expected_calibration_error(counts: Tensor) -> float:
    """Return the mean distance of accuracy and confidence (Guo et al. 2017, equation 3).

    ``counts`` are those of ``calibration_counts``, summed over all batches.
    """
    num_examples, num_correct, confidence = counts
    total = num_examples.sum().clamp(min=1)
    return float((num_correct - confidence).abs().sum() / total)


def temperature_grid() -> Tensor:
    """Return the temperatures that ``best_temperature`` chooses from, float64, from 1/8 to 8."""
    return torch.exp2(torch.linspace(-3, 3, 193, dtype=torch.float64))


def nll_by_temperature(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the summed -ln p of the targets for each temperature of the grid, float64.

    ``logits`` are (N, C), ``targets`` int64 (N,).
    """
    scaled = logits.double() / temperature_grid().to(logits.device)[:, None, None]
    log_probs = scaled.log_softmax(-1)  # (temperatures, N, C)
    rows = torch.arange(len(targets), device=targets.device)
    return -log_probs[:, rows, targets].sum(-1)


def best_temperature(nll: Tensor) -> float:
    """Return the temperature with the smallest summed loss (Guo et al. 2017, section 4.2)."""
    return float(temperature_grid()[int(nll.argmin())])
