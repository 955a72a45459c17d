"""Fits Zipf's and Heaps' laws; counts the unknown tokens for each vocabulary size."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from korlm.config import VocabConfig
from korlm.dataset.vocab import SPECIALS, Vocab


@dataclass(frozen=True)
class PowerLaw:
    """A fit ``y = scale * x ** slope``; ``r_squared`` is that of log y."""

    slope: float
    scale: float
    r_squared: float


def fit_power_law(
    x: npt.ArrayLike, y: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> PowerLaw | None:
    """Fit a line to log x and log y by weighted least squares; None for fewer than two points.

    All arrays have the shape (N,); the weights are those of the squared errors.

    >>> law = fit_power_law([1, 2, 4], [8, 4, 2])
    >>> round(law.slope, 6), round(law.scale, 6), round(law.r_squared, 6)
    (-1.0, 8.0, 1.0)
    """
    log_x, log_y = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    if len(log_x) < 2:
        return None
    w = np.ones(len(log_x)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    dx, dy = log_x - w @ log_x, log_y - w @ log_y
    slope = float(w @ (dx * dy) / (w @ dx**2))
    variance = float(w @ dy**2)
    residual = float(w @ (dy - slope * dx) ** 2)
    scale = float(np.exp(w @ log_y - slope * (w @ log_x)))
    return PowerLaw(slope, scale, 1 - residual / variance if variance > 1e-12 else 1.0)


def fit_zipf(frequencies: npt.ArrayLike) -> PowerLaw | None:
    """Fit frequencies in decreasing order, (types,), against rank, with weight 1 / rank.

    The weights make equal intervals of the logarithmic axis count equally. With equal weights the
    rare types, which are nearly all, would dominate.
    """
    ranks = np.arange(1, len(np.asarray(frequencies)) + 1)
    return fit_power_law(ranks, frequencies, 1 / ranks)


def fit_heaps(growth: Sequence[tuple[int, int]]) -> PowerLaw | None:
    """Fit the number of different morphs against the number of morphs, from pairs of the two."""
    return fit_power_law([n for n, _ in growth], [types for _, types in growth])


class Coverage:
    """Number of unknown tokens in a text for vocabularies of different sizes, built from train.

    ``train`` and ``text`` are counts of tokens; the size in ``config`` is ignored.
    """

    def __init__(
        self, train: Mapping[str, int], text: Mapping[str, int], config: VocabConfig
    ) -> None:
        vocab = Vocab(train, dataclasses.replace(config, min_freq=1, max_size=None))
        self.frequencies = np.array(vocab.counts[len(SPECIALS) :], np.int64)  # decreasing
        ranks = vocab.encode(text) - len(SPECIALS)
        counts = np.fromiter(text.values(), np.int64, len(text))
        known = ranks >= 0
        per_rank = np.bincount(ranks[known], counts[known], len(self.frequencies)).astype(np.int64)
        self._unknown = int(counts.sum()) - np.concatenate([[0], np.cumsum(per_rank)])

    def num_unknown(self, size: int) -> int:
        """Return the number of unknown tokens, given the ``size`` most frequent types."""
        return int(self._unknown[min(size, len(self.frequencies))])

    def size_of(self, min_freq: int) -> int:
        """Return the number of types that occur at least ``min_freq`` times in train."""
        return int(np.searchsorted(-self.frequencies, -min_freq, side="right"))

    def row(self, size: int, num_tokens: int) -> dict[str, Any]:
        """Return a point of the curve for statistics.json; the size excludes special tokens."""
        num_unk = self.num_unknown(size)
        return {"size": size, "num_unk": num_unk, "rate": num_unk / max(num_tokens, 1)}
