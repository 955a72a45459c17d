"""EM finds the known optimum."""

from __future__ import annotations

import numpy as np
import pytest

from korlm.evaluation.mixture import fit_weights, mix


def random_nats(models: int, tokens: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).exponential(3.0, (models, tokens))


def test_probabilities_are_mixed() -> None:
    nats = random_nats(3, 50)
    weights = np.array([0.2, 0.5, 0.3])
    expected = -np.log(weights @ np.exp(-nats))
    np.testing.assert_allclose(mix(nats, weights), expected, rtol=1e-12)


def test_improbable_tokens_do_not_underflow() -> None:
    nats = np.array([[2000.0, 1.0], [2001.0, np.inf]])
    mixed = mix(nats, np.array([0.5, 0.5]))
    expected = [2000 - np.log(0.5 * (1 + np.exp(-1))), 1 - np.log(0.5)]
    np.testing.assert_allclose(mixed, expected)


def test_a_weight_of_0_leaves_a_model_out() -> None:
    nats = np.array([[1.0, 1.0], [np.inf, 2000.0]])
    assert mix(nats, np.array([0.0, 1.0])).tolist() == [np.inf, 2000.0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_known_optimum(share: float) -> None:
    """Each model predicts its own tokens: the weights are the shares of tokens."""
    first = np.arange(1000) < share * 1000
    nats = -np.log(np.where([first, ~first], 0.9, 0.0 + 1e-12))
    np.testing.assert_allclose(fit_weights(nats), [share, 1 - share], atol=1e-3)


def test_no_weights_are_better() -> None:
    nats = random_nats(2, 400)
    best = mix(nats, fit_weights(nats)).mean()
    for weight in np.linspace(0, 1, 101):
        assert best <= mix(nats, np.array([weight, 1 - weight]) + 1e-300).mean() + 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_never_worse_than_the_best_alone(seed: int) -> None:
    nats = random_nats(4, 60, seed)
    nats[1] -= 2.5  # nearly always the best
    weights = fit_weights(nats)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert mix(nats, weights).mean() <= nats.mean(1).min()


def test_a_useless_model_gets_nothing() -> None:
    nats = np.stack([np.full(50, 1.0), np.full(50, 9.0)])
    assert fit_weights(nats).tolist() == [1.0, 0.0]
    nats[1] = np.inf
    assert fit_weights(nats).tolist() == [1.0, 0.0]


def test_tokens_impossible_under_all_models() -> None:
    """They have infinite nats and do not affect the weights."""
    nats = np.array([[1.0, np.inf, np.inf], [2.0, 3.0, np.inf]])
    weights = fit_weights(nats)
    np.testing.assert_allclose(weights, fit_weights(nats[:, :2]))
    mixed = mix(nats, weights)
    assert np.isfinite(mixed[:2]).all()
    assert mixed[2] == np.inf
    assert fit_weights(np.full((2, 3), np.inf)).tolist() == [0.5, 0.5]
