"""Compute bootstrap confidence intervals over documents, and paired tests of two models.

All metrics are ratios of sums over documents, so documents are resampled with replacement and the
ratio is taken of the sums of each resample (Efron 1979; for paired differences Koehn 2004,
"Statistical Significance Tests for Machine Translation Evaluation"). The test is a sign-flip
permutation test: under the null hypothesis each document's difference is as likely to have the
opposite sign (approximate randomization, Riezler and Maxwell 2005). Sentences of one document are
not independent, hence documents.

Axes: C columns that are summed, U units (documents), R resamples.
"""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np

from korlm.evaluation.token_scores import Floats

LEVEL = 0.95
MAX_EXACT = 16  # largest number of units for which all sign patterns are enumerated
MAX_BLOCK = 1 << 22  # numbers drawn at once, which bounds memory


def resampled_sums(columns: Floats, samples: int, seed: int) -> Floats:
    """Return the sums of units drawn with replacement; all columns share the resamples.

    Args:
        columns: (C, U).
        samples: R, the number of resamples of U units each.
        seed: seed of the random generator.

    Returns:
        (C, R).
    """
    num_units = columns.shape[1]
    generator = np.random.default_rng(seed)
    sums = np.empty((len(columns), samples))
    rows = max(1, MAX_BLOCK // num_units)
    for begin in range(0, samples, rows):
        block = sums[:, begin : begin + rows]
        size = block.shape[1]
        drawn = generator.integers(num_units, size=(size, num_units))
        drawn += np.arange(size)[:, None] * num_units
        counts = np.bincount(drawn.ravel(), minlength=size * num_units).reshape(size, num_units)
        with np.errstate(invalid="ignore"):  # 0 * inf
            block[:] = columns @ counts.T
    return sums


def interval(replicates: Floats, num_units: int) -> tuple[float, float]:
    """Return the expanded percentile interval at 95 %.

    Plain percentiles are too narrow for few units, as a normal interval without Student's t is;
    Hesterberg (2015, "What Teachers Should Know About the Bootstrap") widens them. Over documents
    of log-normal lengths the interval covered the truth in 91 % of trials instead of 82 % with 5
    documents, 93 instead of 89 with 10, 94 instead of 92 with 20; BCa was no better than plain
    percentiles.

    Args:
        replicates: (R,), the metric of each resample.
        num_units: U.

    Returns:
        NaN twice if a replicate is not finite or there is only one unit.
    """
    if num_units < 2 or not np.isfinite(replicates).all():
        return math.nan, math.nan
    z = math.sqrt(num_units / (num_units - 1)) * student_quantile((1 + LEVEL) / 2, num_units - 1)
    tail = NormalDist().cdf(-z)
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def student_quantile(p: float, degrees: int) -> float:
    """Return the quantile of Student's t distribution (Abramowitz and Stegun 26.7.5).

    >>> round(student_quantile(0.975, 10), 3)  # 2.228 in their table 26.10
    2.228
    """
    x = NormalDist().inv_cdf(p)
    return (
        x
        + (x**3 + x) / (4 * degrees)
        + (5 * x**5 + 16 * x**3 + 3 * x) / (96 * degrees**2)
        + (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / (384 * degrees**3)
    )


def sign_flip_p(differences: Floats, samples: int, seed: int) -> float:
    """Return the two-sided p-value of a sum of paired differences under random sign flips.

    All sign patterns are enumerated for up to 16 units. Otherwise ``samples`` random patterns are
    drawn, and the observed one is counted as well, so p is never 0.

    Args:
        differences: (U,), of two models on each unit.
        samples: number of random patterns.
        seed: seed of the random generator.

    >>> sign_flip_p(np.array([1.0, 2.0, 3.0]), 100, 1)  # 2 of 8 patterns reach 6: +++ and ---
    0.25
    """
    if not np.isfinite(differences).all():
        return math.nan
    # The tolerance covers rounding of sums in another order, also of those that cancel.
    threshold = abs(float(differences.sum())) - 1e-9 * float(np.abs(differences).sum())
    num_units = len(differences)
    if num_units <= MAX_EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=num_units)))
        return float((np.abs(signs @ differences) >= threshold).mean())
    generator = np.random.default_rng(seed)
    rows = max(1, MAX_BLOCK // num_units)
    num_extreme = 0
    for begin in range(0, samples, rows):
        size = min(rows, samples - begin)
        random_bytes = generator.bytes(size * (-(-num_units // 8)))
        flips = np.unpackbits(
            np.frombuffer(random_bytes, np.uint8).reshape(size, -1), axis=1, count=num_units
        )
        sums = differences.sum() - 2 * (flips @ differences)
        num_extreme += int((np.abs(sums) >= threshold).sum())
    return (num_extreme + 1) / (samples + 1)
