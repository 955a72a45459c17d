"""Dimensions as Optuna's distributions; the sampler of a trial."""

from __future__ import annotations

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from searches import space_of

from korlm.config import SearchConfig
from korlm.sweeps.search.study import distribution, sampler_of


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("choice(a, 1)", CategoricalDistribution(("a", "1"))),
        ("range(64, 257, 64)", IntDistribution(64, 256, step=64)),
        ("tag(log, int(interval(2, 9)))", IntDistribution(2, 9, log=True)),
        ("range(0, 0.7, 0.1)", FloatDistribution(0.0, 0.6, step=0.1)),
        ("tag(log, interval(0.001, 1))", FloatDistribution(0.001, 1.0, log=True)),
        ("interval(2, 2)", FloatDistribution(2.0, 2.0)),
    ],
)
def test_distributions(definition: str, expected: BaseDistribution) -> None:
    assert distribution(space_of(f"a={definition}").searched["a"]) == expected


def test_every_trial_has_random_numbers_of_its_own() -> None:
    """A sampler that restarted after an interruption would propose its first trials again."""
    pairs = [(seed, number) for seed in (1, 2) for number in (0, 1)]
    samplers = [sampler_of(SearchConfig(seed=seed), number) for seed, number in pairs]
    assert len({sampler._rng.rng.random() for sampler in samplers}) == 4  # type: ignore
