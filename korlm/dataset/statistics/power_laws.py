"""Zipf's and Heaps' laws, fitted, and how many tokens a vocabulary of some size leaves unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from korlm.config import VocabConfig
from korlm.dataset.vocab import SPECIALS, Vocab


@dataclass(frozen=True)
class PowerLaw:
    """``y = scale * x ** slope``, and the share of the variance of log y that it explains."""

    slope: float
    scale: float
    r_squared: float


def fit_power_law(
    x: npt.ArrayLike, y: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> PowerLaw | None:
    """The straight line through log x and log y with the least sum of squares; None of one point.

    Args:
        x: shape (N,), all above 0.
        y: shape (N,), all above 0.
        weights: of the squares; shape (N,); None: all alike.

    >>> law = fit_power_law([1, 2, 4], [8, 4, 2])
    >>> round(law.slope, 6), round(law.scale, 6), round(law.r_squared, 6)
    (-1.0, 8.0, 1.0)
    """
    log_x, log_y = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    if len(log_x) < 2:
        return None
    share = np.ones(len(log_x)) if weights is None else np.asarray(weights, float)
    share = share / share.sum()
    dx, dy = log_x - share @ log_x, log_y - share @ log_y
    slope = float(share @ (dx * dy) / (share @ dx**2))
    spread = float(share @ dy**2)
    missed = float(share @ (dy - slope * dx) ** 2)
    scale = float(np.exp(share @ log_y - slope * (share @ log_x)))
    return PowerLaw(slope, scale, 1 - missed / spread if spread > 1e-12 else 1.0)


def fit_zipf(frequencies: npt.ArrayLike) -> PowerLaw | None:
    """Frequency against rank: least squares of the logarithms over all ranks, each weighing 1/rank.

    So every stretch of the logarithmic axis weighs alike. With equal weights the ranks of the rare
    types, which are nearly all, would decide alone.

    Args:
        frequencies: of the types, the greatest first; shape (types,).
    """
    ranks = np.arange(1, len(np.asarray(frequencies)) + 1)
    return fit_power_law(ranks, frequencies, 1 / ranks)


def fit_heaps(growth: Sequence[tuple[int, int]]) -> PowerLaw | None:
    """Different morphs against morphs read: least squares of the logarithms over those points."""
    return fit_power_law([n for n, _ in growth], [types for _, types in growth])


class Coverage:
    """How many tokens of a text each size of vocabulary leaves unknown.

    The vocabularies are those that ``korlm.dataset.vocab`` would make of train's counts.

    Args:
        train: the counts of train's tokens, as the text has them.
        text: the counts of the tokens of the text in question.
        config: whether tokens are lower-cased and numbers made one; its size does not matter.
    """

    def __init__(
        self, train: Mapping[str, int], text: Mapping[str, int], config: VocabConfig
    ) -> None:
        every = Vocab(
            train,
            VocabConfig(
                min_freq=1, lowercase=config.lowercase, normalize_numbers=config.normalize_numbers
            ),
        )
        self.frequencies = np.array(every.counts[len(SPECIALS) :], np.int64)  # falling
        ranks = every.encode(text) - len(SPECIALS)
        counts = np.fromiter(text.values(), np.int64, len(text))
        known = ranks >= 0
        found = np.bincount(ranks[known], counts[known], len(self.frequencies)).astype(np.int64)
        self._unknown = int(counts.sum()) - np.concatenate([[0], np.cumsum(found)])

    def num_unknown(self, size: int) -> int:
        """Tokens that are unknown to a vocabulary of the ``size`` most frequent ones."""
        return int(self._unknown[min(size, len(self.frequencies))])

    def size_of(self, min_freq: int) -> int:
        """How many tokens stand in train so often at least."""
        return int(np.searchsorted(-self.frequencies, -min_freq, side="right"))

    def row(self, size: int, num_tokens: int) -> dict[str, Any]:
        """A point of the curve, as statistics.json has it.

        Args:
            size: of the vocabulary, without the special tokens.
            num_tokens: that the rate is counted from.
        """
        num_unk = self.num_unknown(size)
        return {"size": size, "num_unk": num_unk, "rate": num_unk / max(num_tokens, 1)}
