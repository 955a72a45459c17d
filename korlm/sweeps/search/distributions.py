"""Build the Optuna distributions and samplers of a search."""

from __future__ import annotations

import warnings

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from korlm.config import Sampler, SearchConfig
from korlm.sweeps.search.space import Dimension


def distribution(dim: Dimension) -> BaseDistribution:
    """Return the Optuna distribution of a dimension."""
    if dim.choices:
        return CategoricalDistribution(dim.choices)
    if dim.is_integer:
        step = 1 if dim.step is None else int(dim.step)
        return IntDistribution(int(dim.low), int(dim.high), log=dim.log, step=step)
    return FloatDistribution(float(dim.low), float(dim.high), log=dim.log, step=dim.step)


def sampler_of(config: SearchConfig, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler for a trial, seeded by the number of the trial."""
    seed = (config.seed * 1_000_003 + number) % 2**32
    if config.sampler is Sampler.random:
        return optuna.samplers.RandomSampler(seed)
    with warnings.catch_warnings():  # Optuna warns that its own default is experimental
        warnings.simplefilter("ignore")
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=config.startup_trials, multivariate=True, constant_liar=True
        )
