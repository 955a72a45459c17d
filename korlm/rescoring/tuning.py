"""Tune the weights of the combined score by minimum error rate training.

Och 2003, "Minimum Error Rate Training in Statistical Machine Translation", section 4: along a line
in weight space the combined score of each hypothesis is a linear function, the best hypothesis of
an utterance changes at the corners of their upper envelope, and between all corners the number of
errors is constant. So a line is searched exactly, but for the rounding of the weights found to 6
significant digits. Lines along single weights and in a few random directions alternate until none
reduces the errors. Random directions have a fixed seed: the same lists give the same weights.

Axes: U utterances, M hypotheses of all utterances together, K models, without the recognizer, whose
weight is 1. A point is (K weights, length bonus).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from korlm.evaluation.token_scores import Floats, Ints, segment_sums
from korlm.rescoring.features import Features, best, weighted_sum

INITIAL_LM_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)  # beside the given ones
NUM_DIRECTIONS = 4  # random directions of each round, beside those of single weights


@dataclass(frozen=True)
class TunedWeights:
    """Weights found by tuning.

    Attributes:
        weights: (K,), 0 or more.
        length_bonus: per token, eojeol or character (``length_unit``); per eojeol it is a word
            insertion bonus.
        num_errors: number of errors of the best hypotheses under these weights.
    """

    weights: Floats
    length_bonus: float
    num_errors: int


def tune(features: Features, errors: Ints, weights: Floats, length_bonus: float) -> TunedWeights:
    """Search for the weights with the fewest errors.

    The result is never worse than the initial weights.

    Args:
        features: of all utterances.
        errors: (M,), number of errors of each hypothesis.
        weights: (K,), initial weights, 0 or more.
        length_bonus: initial length bonus.
    """
    num_models, weight_sum = len(weights), weights.sum()
    mixture = weights / weight_sum if weight_sum > 0 else np.full(num_models, 1 / num_models)
    starts = [np.append(weights, length_bonus)]
    starts += [np.append(weight * mixture, 0.0) for weight in INITIAL_LM_WEIGHTS]
    results = [_descend(features, errors, start) for start in starts]
    return min(results, key=lambda result: result.num_errors)  # the first of ties


def _descend(features: Features, errors: Ints, start: Floats) -> TunedWeights:
    """Search line after line from one point until no line has fewer errors."""
    rows = np.vstack([features.log_probs, features.lengths])  # (K + 1, M)
    spread = _spread(rows, features.sizes)
    # A weight whose feature is equal within each utterance changes nothing, and stays as it is.
    is_used = spread > 1e-9
    scales = np.where(is_used, 1 / np.maximum(spread, 1e-9), 0.0)
    generator = np.random.default_rng(0)
    point, num_errors = start, _count(features, errors, start)
    improved = True
    while improved:
        improved = False
        directions = generator.standard_normal((NUM_DIRECTIONS, len(start))) * scales
        for direction in np.vstack([np.eye(len(start))[is_used], directions]):
            base = features.totals(point[:-1], point[-1])
            low, high = _feasible_range(point[:-1], direction[:-1])
            if not low < high:  # two weights are 0 and have opposite signs in the direction
                continue
            x = line_search(base, weighted_sum(direction, rows), errors, features.sizes, low, high)
            candidate = np.array([float(f"{value:.6g}") for value in point + x * direction])
            candidate[:-1] = np.maximum(candidate[:-1], 0.0)
            candidate_errors = _count(features, errors, candidate)
            if candidate_errors < num_errors:
                point, num_errors, improved = candidate, candidate_errors, True
    return TunedWeights(point[:-1], float(point[-1]), num_errors)


def _count(features: Features, errors: Ints, point: Floats) -> int:
    chosen = best(features.totals(point[:-1], point[-1]), features.sizes)
    return int(errors[chosen].sum())


def _spread(rows: Floats, sizes: Ints) -> Floats:
    """Return the standard deviation of each row within utterances, (K + 1,)."""
    means = segment_sums(rows, sizes) / sizes
    spread: Floats = (rows - np.repeat(means, sizes, axis=1)).std(1)
    return spread


def _feasible_range(weights: Floats, direction: Floats) -> tuple[float, float]:
    """Return the range of x for which weights + x * direction are all 0 or more."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = -weights / direction
    low = max(ends[direction > 0], default=-np.inf)
    high = min(ends[direction < 0], default=np.inf)
    return float(low), float(high)


def line_search(
    base: Floats, slopes: Floats, errors: Ints, sizes: Ints, low: float, high: float
) -> float:
    """Return the x for which the best hypotheses under base + x * slopes have the fewest errors.

    Args:
        base: (M,), combined scores at x = 0.
        slopes: (M,).
        errors: (M,).
        sizes: (U,), number of hypotheses.
        low: lower bound of x; may be infinite.
        high: upper bound of x; may be infinite.

    Returns:
        The middle of the widest interval with the fewest errors; finite intervals are preferred.
    """
    corners = [np.zeros(0)]
    changes = [np.zeros(0, np.int64)]
    first_errors = 0
    for number, (x, before, after) in enumerate(_envelopes(base, slopes, sizes, low)):
        if number == 0:
            first_errors = int(errors[after].sum())
            continue
        corners.append(x)
        changes.append(errors[after] - errors[before])
    all_corners, all_changes = np.concatenate(corners), np.concatenate(changes)
    order = np.argsort(all_corners, kind="stable")
    order = order[all_corners[order] < high]
    edges = np.concatenate([[low], all_corners[order], [high]])
    counts = first_errors + np.concatenate([[0], np.cumsum(all_changes[order])])
    return _best_x(edges, counts)


def _envelopes(
    base: Floats, slopes: Floats, sizes: Ints, low: float
) -> Iterator[tuple[Floats, Ints, Ints]]:
    """Trace the upper envelopes of all utterances in parallel, from ``low`` upwards.

    Yields:
        First the best hypotheses just above ``low``; then one more corner of each utterance that
        has one: its x, the hypotheses before it and after it.
    """
    starts, utterances = np.cumsum(sizes) - sizes, np.repeat(np.arange(len(sizes)), sizes)
    if np.isinf(low):
        current = best(-slopes, sizes, tie_breakers=base)
    else:
        current = best(base + low * slopes, sizes, tie_breakers=slopes)
    yield np.zeros(0), current, current
    position = np.full(len(sizes), low)
    while True:
        slope_gain = slopes - slopes[current][utterances]
        is_steeper = slope_gain > 0
        crossing = np.full(len(base), np.inf)
        np.divide(base[current][utterances] - base, slope_gain, out=crossing, where=is_steeper)
        nearest = np.minimum.reduceat(crossing, starts)
        moves = np.isfinite(nearest)
        if not moves.any():
            return
        is_next = is_steeper & (crossing == nearest[utterances])
        following = best(slopes, sizes, mask=is_next)
        position = np.maximum(position, nearest)  # corners are in order except for rounding
        yield position[moves], current[moves], following[moves]
        current = np.where(moves, following, current)


def _best_x(edges: Floats, counts: Ints) -> float:
    """Return the middle of the widest interval with the fewest errors, finite ones preferred.

    ``edges`` (n + 1,) rise, the last one is larger than the first; ``counts`` (n,) are the errors
    between them.
    """
    has_width = np.diff(edges) > 0  # intervals of width 0 do not separate their neighbors
    edges, counts = np.append(edges[:-1][has_width], edges[-1]), counts[has_width]
    is_best = np.concatenate([[False], counts == counts.min(), [False]])
    changes = np.flatnonzero(np.diff(is_best.astype(np.int8)))
    starts, ends = edges[changes[::2]], edges[changes[1::2]]
    widths = ends - starts
    widths = np.where(np.isinf(widths), 0.0, widths)
    widest = int(widths.argmax()) if len(widths) else 0
    low, high = float(starts[widest]), float(ends[widest])
    if np.isinf(low) and np.isinf(high):
        return 0.0
    if np.isinf(high):
        return low + max(0.1 * abs(low), 1e-3)
    return high - max(0.1 * abs(high), 1e-3) if np.isinf(low) else (low + high) / 2
