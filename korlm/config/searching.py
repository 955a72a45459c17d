"""Settings of a search: how many trials, who proposes them, which are ended early."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, ClassVar

from korlm.config.base import Group


class Sampler(enum.Enum):
    """Who proposes the settings of a trial."""

    tpe = "tpe"
    random = "random"


class Pruner(enum.Enum):
    """Who ends trials early."""

    median = "median"
    none = "none"


@dataclass
class SearchConfig(Group):
    """hydra/sweeper=optuna: a search in place of all combinations."""

    _group: ClassVar[str] = "hydra.sweeper"

    _target_: str = "hydra_plugins.korlm.OptunaSweeper"
    n_trials: int = 20
    # in all, those of earlier commands included
    n_jobs: int = 1
    # proposed and launched at once; more than 1 pays where the launcher runs them side by side
    sampler: Sampler = Sampler.tpe
    # tpe: tree-structured Parzen estimators over all settings together (Bergstra et al. 2011;
    # Falkner et al. 2018); random: draws (Bergstra and Bengio 2012)
    seed: int = 1
    # of the proposals; that of the runs is the setting `seed`
    startup_trials: int = 8
    # drawn before tpe begins to learn from the figures
    pruner: Pruner = Pruner.median
    # median: a trial ends whose best figure of valid is worse than the median of those that others
    # had at the same share of their training
    prune_trials: int = 4
    # whole trials with such a figure before any other is ended
    prune_share: float = 0.3
    # of its training that every trial is given
    params: dict[str, Any] = field(default_factory=dict)
    # setting -> choice(...), range(...), interval(...), tag(log, interval(...)), or one value; what
    # is typed for the same setting replaces it

    def __post_init__(self) -> None:
        self._at_least(1, "n_trials", "n_jobs", "startup_trials", "prune_trials")
        self._at_most(1_000_000, "n_trials")
        self._at_most(4096, "n_jobs")
        self._at_least(0, "seed")
        self._at_most(2**32 - 1, "seed")
        self._share("prune_share")
