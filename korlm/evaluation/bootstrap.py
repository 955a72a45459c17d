"""How sure a figure is: bootstrap intervals over documents, and paired tests of two models.

All figures of merit are ratios of sums over documents, so documents are drawn with replacement, the
sums of each draw divided once (Efron 1979; for paired differences Koehn 2004, "Statistical
Significance Tests for Machine Translation Evaluation"). Tests are sign flips: were both models
alike, each document's difference might as well have the other sign (approximate randomization,
Riezler and Maxwell 2005). Only documents are independent of each other; sentences of one are not.
"""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np

from korlm.evaluation.texts import Floats

Interval = tuple[float, float]

LEVEL = 0.95
MAX_EXACT = 16  # units of which all sign patterns are tried
DRAWS_AT_ONCE = 1 << 22  # bounds memory


def resampled_sums(columns: Floats, samples: int, seed: int) -> Floats:
    """The sums of units drawn with replacement, the same draws for all columns.

    Args:
        columns: (K, U).
        samples: R, draws of U units each.
        seed: of the draws.

    Returns:
        (K, R).
    """
    num_units = columns.shape[1]
    random = np.random.default_rng(seed)
    found = np.empty((len(columns), samples))
    rows = max(1, DRAWS_AT_ONCE // num_units)
    for begin in range(0, samples, rows):
        part = found[:, begin : begin + rows]
        size = part.shape[1]
        drawn = random.integers(num_units, size=(size, num_units))
        drawn += np.arange(size)[:, None] * num_units
        times = np.bincount(drawn.ravel(), minlength=size * num_units).reshape(size, num_units)
        with np.errstate(invalid="ignore"):  # infinite, drawn no time
            part[:] = columns @ times.T
    return found


def interval(replicates: Floats, num_units: int) -> Interval:
    """The expanded percentile interval, at 95 %.

    Plain percentiles are too narrow where units are few, as a normal interval without Student's t
    is: Hesterberg (2015, "What Teachers Should Know About the Bootstrap") takes farther ones. Over
    documents of log-normal lengths it held the truth in 91 % of the trials instead of 82 % with 5
    documents, 93 instead of 89 with 10, 94 instead of 92 with 20; BCa was no better than plain.

    Args:
        replicates: (R,), of the figure.
        num_units: U, of which each was made.

    Returns:
        Not a number, both, if the figure is not finite or there is one unit only.
    """
    if num_units < 2 or not np.isfinite(replicates).all():
        return math.nan, math.nan
    far = math.sqrt(num_units / (num_units - 1)) * _student((1 + LEVEL) / 2, num_units - 1)
    below = NormalDist().cdf(-far)
    low, high = np.quantile(replicates, [below, 1 - below])
    return float(low), float(high)


def _student(share: float, freedom: int) -> float:
    """The quantile of Student's t, by Abramowitz and Stegun 26.7.5.

    >>> round(_student(0.975, 10), 3)  # 2.228 in their table 26.10
    2.228
    """
    x = NormalDist().inv_cdf(share)
    return (
        x
        + (x**3 + x) / (4 * freedom)
        + (5 * x**5 + 16 * x**3 + 3 * x) / (96 * freedom**2)
        + (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / (384 * freedom**3)
    )


def sign_flip_p(differences: Floats, samples: int, seed: int) -> float:
    """How often random signs make the sum of the differences as large as it is; two-sided.

    All patterns of signs are tried where there are at most 2^16, otherwise ``samples`` random ones,
    and the pattern that was found counts as one more: p is never 0.

    Args:
        differences: (U,), of two models on each unit.
        samples: R.
        seed: of the signs.

    >>> sign_flip_p(np.array([1.0, 2.0, 3.0]), 100, 1)  # of eight patterns +++ and --- get to 6
    0.25
    """
    if not np.isfinite(differences).all():
        return math.nan
    enough = abs(float(differences.sum())) * (1 - 1e-9)  # sums in another order round otherwise
    num_units = len(differences)
    if num_units <= MAX_EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=num_units)))
        return float((np.abs(signs @ differences) >= enough).mean())
    random = np.random.default_rng(seed)
    rows = max(1, DRAWS_AT_ONCE // num_units)
    reached = 0
    for begin in range(0, samples, rows):
        size = min(rows, samples - begin)
        bits = np.unpackbits(
            np.frombuffer(random.bytes(size * (-(-num_units // 8))), np.uint8).reshape(size, -1),
            axis=1,
            count=num_units,
        )
        sums = differences.sum() - 2 * (bits @ differences)
        reached += int((np.abs(sums) >= enough).sum())
    return (reached + 1) / (samples + 1)
