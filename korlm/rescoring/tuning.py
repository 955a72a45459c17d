"""Weights that make the fewest errors on lists whose references are known.

Minimum error rate training (Och 2003, "Minimum Error Rate Training in Statistical Machine
Translation", section 4): along a line through the weights each hypothesis is a straight line, the
best one of an utterance changes at the corners of their upper envelope, and between all corners the
number of errors is constant. So one line is searched exactly; lines along single weights and in a
few other directions take turns until none helps. Nothing is left to chance: the same lists give the
same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from korlm.rescoring.features import Features, best
from korlm.rescoring.lm_scorer import Floats
from korlm.rescoring.prefix_tree import Ints

STARTS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)  # weights to begin at, beside those that were given
DIRECTIONS = 4  # searched in each round, beside those of single weights


@dataclass(frozen=True)
class Tuned:
    """A place among the weights.

    Attributes:
        weights: (K,), 0 or more.
        bonus: for each unit of length.
        num_errors: of the hypotheses that are best there.
    """

    weights: Floats
    bonus: float
    num_errors: int


def tune(features: Features, errors: Ints, weights: Floats, bonus: float) -> Tuned:
    """Searches for the weights of fewest errors.

    Args:
        features: of all lists.
        errors: (M,), of each hypothesis.
        weights: (K,), to begin with; the result is never worse.
        bonus: the same.
    """
    share = (
        weights / weights.sum() if weights.sum() > 0 else np.full(len(weights), 1 / len(weights))
    )
    starts = [np.append(weights, bonus)]
    starts += [np.append(start * share, 0.0) for start in STARTS]
    ends = [_descend(features, errors, start) for start in starts]
    return min(ends, key=lambda end: end.num_errors)  # the first of equals


def _descend(features: Features, errors: Ints, start: Floats) -> Tuned:
    """Line by line from one place, until no line has fewer errors."""
    rows = np.vstack([features.log_probs, features.lengths])  # (K + 1, M)
    scales = 1 / np.maximum(_spread(rows, features.sizes), 1e-9)
    dice = np.random.default_rng(0)
    point, num_errors = start, _count(features, errors, start)
    improves = True
    while improves:
        improves = False
        turns = dice.standard_normal((DIRECTIONS, len(start))) * scales
        for direction in np.vstack([np.eye(len(start)), turns]):
            base = features.totals(point[:-1], point[-1])
            low, high = _range(point[:-1], direction[:-1])
            if not low < high:  # two weights of 0 that pull apart: nowhere to go
                continue
            at = line_search(base, direction @ rows, errors, features.sizes, low, high)
            there = np.array([float(f"{value:.6g}") for value in point + at * direction])
            there[:-1] = np.maximum(there[:-1], 0.0)
            found = _count(features, errors, there)
            if found < num_errors:
                point, num_errors, improves = there, found, True
    return Tuned(point[:-1], float(point[-1]), num_errors)


def _count(features: Features, errors: Ints, point: Floats) -> int:
    chosen = best(features.totals(point[:-1], point[-1]), features.sizes)
    return int(errors[chosen].sum())


def _spread(rows: Floats, sizes: Ints) -> Floats:
    """How much each row varies within utterances, (K + 1,)."""
    begins = np.cumsum(sizes) - sizes
    means = np.add.reduceat(rows, begins, axis=1) / sizes
    spread: Floats = (rows - np.repeat(means, sizes, axis=1)).std(1)
    return spread


def _range(weights: Floats, direction: Floats) -> tuple[float, float]:
    """How far one can go either way with all weights 0 or more."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = -weights / direction
    low = max(ends[direction > 0], default=-np.inf)
    high = min(ends[direction < 0], default=np.inf)
    return float(low), float(high)


def line_search(
    base: Floats, slopes: Floats, errors: Ints, sizes: Ints, low: float, high: float
) -> float:
    """Where base + x * slopes makes the fewest errors, exactly.

    Args:
        base: (M,), what hypotheses have at x = 0.
        slopes: (M,), what x adds.
        errors: (M,).
        sizes: (U,).
        low: the least x; may be infinite.
        high: the greatest.

    Returns:
        The middle of the widest range of x with the fewest errors.
    """
    corners, changes, first = [np.zeros(0)], [np.zeros(0, np.int64)], 0
    for number, (at, before, after) in enumerate(_envelopes(base, slopes, sizes, low)):
        if number == 0:
            first = int(errors[after].sum())
            continue
        corners.append(at)
        changes.append(errors[after] - errors[before])
    places, steps = np.concatenate(corners), np.concatenate(changes)
    order = np.argsort(places, kind="stable")
    order = order[places[order] < high]
    edges = np.concatenate([[low], places[order], [high]])
    counts = first + np.concatenate([[0], np.cumsum(steps[order])])
    return _middle(edges, counts)


def _envelopes(
    base: Floats, slopes: Floats, sizes: Ints, low: float
) -> Iterator[tuple[Floats, Ints, Ints]]:
    """Upper envelopes of all utterances at once, from ``low`` up.

    Yields:
        The best hypotheses just above ``low``; then corner after corner of each utterance that has
        one more: where, which hypothesis is left, which is taken.
    """
    begins, owners = np.cumsum(sizes) - sizes, np.repeat(np.arange(len(sizes)), sizes)

    def first_of(mask: npt.NDArray[np.bool_], *keys: Floats) -> Ints:
        """The highest by the first key, of these by the next, of these the first."""
        for key in keys:
            highest = np.maximum.reduceat(np.where(mask, key, -np.inf), begins)
            mask = mask & (key == highest[owners])
        places = np.where(mask, np.arange(len(base)), len(base))
        found: Ints = np.minimum.reduceat(places, begins)
        return found

    everything = np.ones(len(base), dtype=bool)
    at_low = (-slopes, base) if np.isinf(low) else (base + low * slopes, slopes)
    current = first_of(everything, *at_low)
    yield np.zeros(0), current, current
    passed = np.full(len(sizes), low)
    while True:
        rises = slopes - slopes[current][owners]
        steeper = rises > 0
        cross = np.full(len(base), np.inf)
        np.divide(base[current][owners] - base, rises, out=cross, where=steeper)
        nearest = np.minimum.reduceat(cross, begins)
        moves = np.isfinite(nearest)
        if not moves.any():
            return
        taken = first_of(steeper & (cross == nearest[owners]), slopes)
        passed = np.maximum(passed, nearest)  # corners come in order, rounding aside
        yield passed[moves], current[moves], taken[moves]
        current = np.where(moves, taken, current)


def _middle(edges: Floats, counts: Ints) -> float:
    """The middle of the widest stretch with the fewest errors, finite ones before endless ones.

    Args:
        edges: (n + 1,), rising.
        counts: (n,), errors between them.
    """
    fewest = counts[np.diff(edges) > 0].min(initial=np.iinfo(np.int64).max)
    is_best = np.concatenate([[False], (counts == fewest) & (np.diff(edges) > 0), [False]])
    # A stretch without width between two of the fewest does not part them.
    is_best[1:-1] |= (np.diff(edges) <= 0) & is_best[:-2] & is_best[2:]
    turns = np.flatnonzero(np.diff(is_best.astype(np.int8)))
    begins, ends = edges[turns[::2]], edges[turns[1::2]]
    widths = ends - begins
    widths = np.where(np.isinf(widths), 0.0, widths)
    at = int(widths.argmax()) if len(widths) else 0
    low, high = float(begins[at]), float(ends[at])
    if np.isinf(low) and np.isinf(high):
        return 0.0
    if np.isinf(high):
        return low + max(0.1 * abs(low), 1e-3)
    return high - max(0.1 * abs(high), 1e-3) if np.isinf(low) else (low + high) / 2
