"""Line search is exact, tuning recovers known weights and is never worse than the start."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from korlm.rescoring.features import Features, best
from korlm.rescoring.tuning import line_search, tune


def random_features(seed: int, num_models: int = 1) -> tuple[Features, np.ndarray]:
    """Return lists of different sizes with random errors."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 9, 40)
    total = int(sizes.sum())
    features = Features(
        random.normal(size=total),
        random.normal(size=(num_models, total)) * 5,
        random.integers(1, 12, total),
        sizes,
    )
    return features, random.integers(0, 5, total)


def errors_at(
    features: Features, errors: np.ndarray, weights: np.ndarray, length_bonus: float
) -> int:
    return int(errors[best(features.totals(weights, length_bonus), features.sizes)].sum())


@pytest.mark.parametrize("seed", range(8))
def test_a_line_is_searched_exactly(seed: int) -> None:
    features, errors = random_features(seed)
    base, slopes, sizes = features.scores, features.log_probs[0], features.sizes
    grid = np.linspace(0, 3, 4001)[1:-1]
    on_grid = min(int(errors[best(base + x * slopes, sizes)].sum()) for x in grid)
    at = line_search(base, slopes, errors, sizes, 0.0, 3.0)
    assert 0 <= at <= 3
    assert int(errors[best(base + at * slopes, sizes)].sum()) <= on_grid


@pytest.mark.parametrize("seed", range(4))
def test_an_endless_line(seed: int) -> None:
    features, errors = random_features(seed)
    base, slopes, sizes = features.scores, features.lengths.astype(float), features.sizes
    grid = np.concatenate([np.linspace(-5, 5, 2001), [-1e4, 1e4]])
    on_grid = min(int(errors[best(base + x * slopes, sizes)].sum()) for x in grid)
    at = line_search(base, slopes, errors, sizes, -np.inf, np.inf)
    assert int(errors[best(base + at * slopes, sizes)].sum()) <= on_grid


def test_the_middle_of_the_widest_range() -> None:
    # The first hypothesis is best up to x = 1, the second up to 3, the third from there.
    base, slopes = np.array([0.0, -1.0, -4.0]), np.array([0.0, 1.0, 2.0])
    sizes = np.array([3])
    for errors, low, high, expected in (
        ([1, 0, 1], 0, 9, 2.0),
        ([0, 1, 1], 0, 9, 0.5),
        ([1, 1, 0], 0, 9, 6.0),
        ([1, 1, 0], 0, np.inf, 3.3),
        ([0, 1, 1], -np.inf, np.inf, 0.9),
        ([0, 1, 0], 0, 9, 6.0),
        ([0, 0, 1], 0, 9, 1.5),
    ):
        assert line_search(base, slopes, np.array(errors), sizes, low, high) == pytest.approx(
            expected
        )


@pytest.mark.parametrize("num_models", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_never_worse_and_always_the_same(seed: int, num_models: int) -> None:
    features, errors = random_features(seed, num_models)
    start = np.full(num_models, 0.7)
    tuned = tune(features, errors, start, -0.3)
    assert tuned.num_errors <= errors_at(features, errors, start, -0.3)
    assert tuned.num_errors == errors_at(features, errors, tuned.weights, tuned.length_bonus)
    assert (tuned.weights >= 0).all()
    again = tune(features, errors, start, -0.3)
    assert tuned.weights.tolist() == again.weights.tolist()
    assert tuned.length_bonus == again.length_bonus


def test_known_weights_are_recovered() -> None:
    # Correct is the hypothesis with the highest score + 2 * lm - 1.5 * length, by a small margin.
    random = np.random.default_rng(7)
    sizes = np.full(200, 10)
    log_probs, lengths = random.normal(size=(1, 2000)) * 3, random.integers(3, 15, 2000)
    hidden = random.normal(size=2000)
    features = Features(hidden - 2 * log_probs[0] + 1.5 * lengths, log_probs, lengths, sizes)
    errors = np.ones(2000, dtype=np.int64)
    errors[best(hidden, sizes)] = 0
    assert errors_at(features, errors, np.array([0.5]), 0.0) > 100
    tuned = tune(features, errors, np.array([0.5]), 0.0)
    assert tuned.num_errors <= 2
    assert tuned.weights[0] == pytest.approx(2, abs=0.05)
    assert tuned.length_bonus == pytest.approx(-1.5, abs=0.05)


def test_lists_of_one_hypothesis() -> None:
    features = Features(np.zeros(3), np.zeros((1, 3)), np.ones(3, np.int64), np.ones(3, np.int64))
    tuned = tune(features, np.array([2, 0, 1]), np.array([0.5]), 0.25)
    assert (tuned.weights.tolist(), tuned.length_bonus, tuned.num_errors) == ([0.5], 0.25, 3)


@pytest.mark.parametrize("num_models", [1, 2])
def test_hypotheses_of_equal_length_leave_the_length_bonus(num_models: int) -> None:
    features, errors = random_features(0, num_models)
    lengths = np.repeat(np.arange(len(features.sizes)), features.sizes)
    features = dataclasses.replace(features, lengths=lengths)
    start = np.full(num_models, 0.7)
    tuned = tune(features, errors, start, -0.3)
    assert tuned.num_errors < errors_at(features, errors, start, -0.3)
    assert tuned.length_bonus in (-0.3, 0.0)  # those of the starting points


def test_a_direction_that_leaves_no_range_is_skipped() -> None:
    log_probs = np.array([[-5.0, -6, -5, -7], [-4.0, -6, -8, -9]])
    lengths = np.array([3.0, 3, 4, 3])
    features = Features(np.array([0.0, -1, 0, -1]), log_probs, lengths, np.array([2, 2]))
    for errors in ([0, 1, 0, 1], [1, 1, 1, 1]):
        tuned = tune(features, np.array(errors), np.array([0.25, 0.25]), 0.0)
        assert tuned.num_errors == errors[0] + errors[2]
