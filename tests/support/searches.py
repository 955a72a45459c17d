"""Hyperparameter searches without training: objectives are computed from the settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from korlm.config import SearchConfig
from korlm.sweeps.search.space import Space, read_space
from korlm.sweeps.search.study import open_search

SPACE = ["lr=tag(log, interval(0.001, 1))", "dim=choice(10, 20)", "layers=range(1, 4)"]


def space_of(*definitions: str) -> Space:
    return read_space({}, list(definitions or SPACE))


def figure(overrides: list[str]) -> float:
    """Return an objective that is best for lr=0.1 and dim=20."""
    settings = dict(override.split("=") for override in overrides)
    return abs(math.log10(float(settings["lr"])) + 1) + (settings["dim"] == "10")


class BreakError(Exception):
    """An error that ends a search."""


def search(
    folder: Path,
    run: Callable[[list[str]], Any] = figure,
    space: Space | None = None,
    objective: str = "valid.perplexity",
    **settings: Any,
) -> list[FrozenTrial]:
    """Run a search to its end as the sweeper does; return the trials."""
    folder.mkdir(parents=True, exist_ok=True)
    config = SearchConfig(**{"startup_trials": 3, **settings})
    with open_search(folder, space or space_of(), config, objective) as opened:
        while proposals := opened.propose(config.n_jobs):
            for proposal in proposals:
                opened.record(proposal.number, run(proposal.overrides))
            opened.check()
        opened.require_result()
        return opened.study.get_trials()
