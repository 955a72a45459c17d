"""Features by hand; ranks are permutations, ties keep their order."""

from __future__ import annotations

import numpy as np
import pytest

from korlm.config import LengthUnit, Normalize
from korlm.rescoring.features import Features, ScoreWeights, best, rank
from korlm.rescoring.lm_scorer import TextScores
from korlm.rescoring.nbest import Hypothesis, NBest

BATCH = [
    NBest("a", [Hypothesis("나는 간다", -3.0), Hypothesis("나는  가 안다 ", -2.0)]),
    NBest("b", [Hypothesis("", -1.0)]),
]
SCORES = TextScores(np.array([[-8.0, -12.0, -4.0]]), np.array([4, 6, 1]))


@pytest.mark.parametrize(
    ("unit", "lengths"),
    [(LengthUnit.token, [4, 6, 1]), (LengthUnit.eojeol, [2, 3, 0]), (LengthUnit.char, [5, 7, 0])],
)
def test_lengths(unit: LengthUnit, lengths: list[int]) -> None:
    features = Features.from_scores(BATCH, SCORES, ScoreWeights(length_unit=unit))
    assert features.lengths.tolist() == lengths
    assert features.sizes.tolist() == [2, 1]
    totals = features.totals(np.array([0.5]), 2.0)
    assert totals.tolist() == [-7 + 2 * lengths[0], -8 + 2 * lengths[1], -3 + 2 * lengths[2]]


@pytest.mark.parametrize(
    ("normalize", "log_probs"),
    [
        (Normalize.none, [-8, -12, -4]),
        (Normalize.token, [-2, -2, -4]),
        (Normalize.eojeol, [-4, -4, -4]),
    ],
)
def test_normalized(normalize: Normalize, log_probs: list[float]) -> None:
    features = Features.from_scores(BATCH, SCORES, ScoreWeights(normalize=normalize))
    assert features.log_probs.tolist() == [log_probs]


def test_ties_keep_their_order() -> None:
    totals, sizes = np.array([1.0, 2.0, 2.0, 5.0, 5.0, 5.0]), np.array([3, 1, 2])
    assert [order.tolist() for order in rank(totals, sizes)] == [[1, 2, 0], [0], [0, 1]]
    assert best(totals, sizes).tolist() == [1, 3, 4]


@pytest.mark.parametrize("num_models", [2, 3, 7])
def test_equal_hypotheses_tie(num_models: int) -> None:
    """Their scores are equal to the last bit, wherever they are in the list."""
    random = np.random.default_rng(num_models)
    weights, column = random.random(num_models), random.normal(size=(num_models, 1))
    for total in range(2, 40):
        log_probs = np.repeat(column, total, axis=1)
        features = Features(np.zeros(total), log_probs, np.ones(total, int), np.array([total]))
        totals = features.totals(weights, 0.1)
        assert (totals == totals[0]).all()
        expected = (weights * column[:, 0]).sum() + 0.1
        assert totals[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_permutations(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 7, 20)
    totals = random.integers(0, 4, int(sizes.sum())).astype(float)
    ranks = rank(totals, sizes)
    starts = np.cumsum(sizes) - sizes
    for order, size, start, first in zip(ranks, sizes, starts, best(totals, sizes), strict=True):
        assert sorted(order) == list(range(size))
        assert (np.diff(totals[start + order]) <= 0).all()
        assert start + order[0] == first


def test_joined() -> None:
    features = Features.from_scores(BATCH, SCORES, ScoreWeights())
    joined = Features.joined([features, features])
    assert joined.sizes.tolist() == [2, 1, 2, 1]
    assert joined.starts.tolist() == [0, 2, 3, 5]
    assert joined.log_probs.shape == (1, 6)
