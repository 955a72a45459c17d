"""Searches without training: figures are made of the settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from korlm.config import SearchConfig
from korlm.sweeps.search.space import Space, read_space
from korlm.sweeps.search.study import opened

SPACE = ["lr=tag(log, interval(0.001, 1))", "dim=choice(10, 20)", "layers=range(1, 4)"]


def space_of(*typed: str) -> Space:
    return read_space({}, list(typed or SPACE))


def figure(overrides: list[str]) -> float:
    """Best at lr=0.1, and with dim=20."""
    typed = dict(override.split("=") for override in overrides)
    return abs(math.log10(float(typed["lr"])) + 1) + (typed["dim"] == "10")


class BreakError(Exception):
    """Something that ends a command."""


def search(
    folder: Path,
    run: Callable[[list[str]], Any] = figure,
    space: Space | None = None,
    objective: str = "valid.perplexity",
    **settings: Any,
) -> list[FrozenTrial]:
    """Searches to the end as the sweeper does; gives the trials.

    Args:
        folder: of the search.
        run: gives the result of a job.
        space: of the settings.
        objective: of the search.
        settings: of ``SearchConfig``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = SearchConfig(**{"startup_trials": 3, **settings})
    with opened(folder, space or space_of(), config, objective) as found:
        while proposals := found.propose(config.n_jobs):
            for proposal in proposals:
                found.record(proposal.number, run(proposal.overrides))
            found.check()
        found.require_result()
        return found.study.get_trials()
