"""Intervals and p-values against enumerated, analytic and simulated results."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest

from korlm.evaluation import bootstrap
from korlm.evaluation.bootstrap import interval, resampled_sums, sign_flip_p, student_quantile


def test_every_resample_has_all_units() -> None:
    sums = resampled_sums(np.stack([np.ones(7), np.arange(7.0), np.arange(7.0) * 3]), 500, 1)
    assert sums.shape == (3, 500)
    assert (sums[0] == 7).all()
    np.testing.assert_allclose(sums[2], 3 * sums[1])  # all columns share the resamples
    assert len(np.unique(sums[1])) > 20
    np.testing.assert_array_equal(sums, resampled_sums(sums_of(7), 500, 1))
    assert not np.array_equal(sums, resampled_sums(sums_of(7), 500, 2))


def sums_of(num_units: int) -> np.ndarray:
    units = np.arange(float(num_units))
    return np.stack([np.ones(num_units), units, 3 * units])


def test_two_units_by_hand() -> None:
    """Resamples of two units: twice the first (1/4), both (1/2), twice the second (1/4)."""
    sums = resampled_sums(np.array([[1.0, 4.0]]), 8000, 3)[0]
    values, counts = np.unique(sums, return_counts=True)
    assert values.tolist() == [2.0, 5.0, 8.0]
    np.testing.assert_allclose(counts / 8000, [0.25, 0.5, 0.25], atol=0.02)


def test_the_variance_of_a_sum() -> None:
    """The bootstrap variance of a sum of U units is U times the variance of a unit."""
    units = np.random.default_rng(0).normal(5, 2, 300)
    sums = resampled_sums(units[None], 4000, 1)[0]
    assert sums.mean() == pytest.approx(units.sum(), rel=0.002)
    assert sums.std() == pytest.approx(math.sqrt(300) * units.std(), rel=0.04)
    low, high = interval(sums / 300, 300)
    half = 1.96 * units.std() / math.sqrt(300)
    assert low == pytest.approx(units.mean() - half, abs=0.12 * half)
    assert high == pytest.approx(units.mean() + half, abs=0.12 * half)


def test_results_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "MAX_BLOCK", 50)
    few = resampled_sums(sums_of(20), 33, 1)
    assert few.shape == (3, 33)
    assert (few[0] == 20).all()
    differences = np.random.default_rng(1).normal(0.2, 1, 30)
    parts = sign_flip_p(differences, 3000, 1)
    monkeypatch.undo()
    assert parts == pytest.approx(sign_flip_p(differences, 3000, 1), abs=0.03)


@pytest.mark.parametrize("num_units", [5, 10, 40])
def test_coverage_of_intervals(num_units: int) -> None:
    """A ratio of sums over documents of log-normal lengths, whose loss falls with their length."""
    random = np.random.default_rng(num_units)
    truth, covered, plain, trials = 3.4 - 0.1 * 0.5**2, 0, 0, 400
    for trial in range(trials):
        lengths = random.lognormal(5, 0.5, num_units)
        loss = 3.4 - 0.1 * (np.log(lengths) - 5) + random.normal(0, 0.35, num_units)
        top, bottom = resampled_sums(np.stack([loss * lengths, lengths]), 400, trial)
        low, high = interval(top / bottom, num_units)
        covered += low <= truth <= high
        low, high = np.quantile(top / bottom, [0.025, 0.975])
        plain += low <= truth <= high
    assert 0.87 < covered / trials < 0.98
    assert covered >= plain


def test_undefined_and_empty_intervals() -> None:
    assert all(map(math.isnan, interval(np.ones(100), 1)))
    assert all(map(math.isnan, interval(np.array([1.0, np.inf]), 5)))
    assert interval(np.full(100, 2.0), 5) == (2.0, 2.0)


@pytest.mark.parametrize("degrees", [4, 9, 30, 1000])
def test_student_quantile(degrees: int) -> None:
    expected = {4: 2.776, 9: 2.262, 30: 2.042, 1000: 1.962}
    assert student_quantile(0.975, degrees) == pytest.approx(expected[degrees], rel=0.012)
    assert student_quantile(0.975, degrees) > NormalDist().inv_cdf(0.975)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_units", [1, 2, 5, 9])
def test_exact_p_values(num_units: int, seed: int) -> None:
    differences = np.random.default_rng(seed).normal(0.5, 1, num_units)
    patterns = list(itertools.product((1, -1), repeat=num_units))
    is_extreme = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        >= abs(differences.sum()) - 1e-12
        for signs in patterns
    ]
    assert sign_flip_p(differences, 10, 1) == sum(is_extreme) / len(patterns)


def test_random_signs_approximate_the_exact_p_value(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(5).normal(0.4, 1, 13)
    exact = sign_flip_p(differences, 10, 1)
    monkeypatch.setattr(bootstrap, "MAX_EXACT", 0)
    assert 0.02 < exact < 0.98
    assert sign_flip_p(differences, 20_000, 1) == pytest.approx(exact, abs=0.015)


def test_false_positive_rate() -> None:
    random = np.random.default_rng(0)
    p_values = np.array([sign_flip_p(random.normal(0, 1, 25), 400, trial) for trial in range(400)])
    assert 0.02 < (p_values <= 0.05).mean() < 0.09
    assert 0.4 < p_values.mean() < 0.6


def test_extreme_p_values() -> None:
    assert sign_flip_p(np.ones(40), 999, 1) == 0.001
    assert sign_flip_p(np.zeros(40), 999, 1) == 1.0
    assert sign_flip_p(np.zeros(3), 999, 1) == 1.0
    assert math.isnan(sign_flip_p(np.array([1.0, np.inf]), 9, 1))
    assert math.isnan(sign_flip_p(np.array([1.0, np.nan]), 9, 1))


@pytest.mark.parametrize("times", [3, 8])  # all sign patterns, and random ones
def test_differences_that_cancel_are_not_significant(times: int) -> None:
    assert sign_flip_p(np.array([0.1, 0.2, -0.3] * times), 1000, seed=1) == 1.0
