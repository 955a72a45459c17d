"""The study of a search: its trials in search.db and how they ended (Optuna; Akiba et al. 2019).

A trial is RUNNING while its job is; whatever ends the command turns it back to WAITING, and the
next command takes it up under its number, with its settings and so in its folder. Each proposal has
a sampler of its own, seeded by the trial's number: a search that is resumed proposes what an
undisturbed one would have, and not its first trials anew.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from korlm.config import SearchConfig
from korlm.sweeps.folder import Settings, settings_of
from korlm.sweeps.search.distributions import distribution, sampler_of
from korlm.sweeps.search.names import DATABASE, PRUNED
from korlm.sweeps.search.space import Space
from korlm.sweeps.search.storage import STUDY, storage_of
from korlm.utils.errors import (
    ConfigError,
    OutputError,
    Pruned,
    SearchError,
    TrainingError,
    reason_of,
)
from korlm.utils.io.locks import alone

logger = logging.getLogger(__name__)


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial of the smallest finite value."""
    whole = [t for t in trials if t.state is TrialState.COMPLETE and math.isfinite(t.value or 0.0)]
    return min(whole, key=lambda trial: trial.value or 0.0, default=None)


def last_reason(trials: Sequence[FrozenTrial]) -> str:
    """What the last trial that failed, failed with."""
    reasons = [text for trial in trials if (text := reason(trial))]
    return f"the last with: {reasons[-1]}" if reasons else "each being beyond all floats"


def reason(trial: FrozenTrial) -> str:
    """Why a trial has no figure; empty if it has one."""
    has_figure = trial.state is TrialState.COMPLETE
    return "" if has_figure else str(trial.user_attrs.get(PRUNED, trial.user_attrs.get("reason")))


def shown(value: float | None) -> str:
    """A figure of merit, whatever its sign."""
    assert value is not None
    return f"{abs(value):,.4f}" if math.isfinite(value) else "infinite"


GIVE_UP = 5  # trials: when the first so many have all failed, so will the next ones


@dataclass(frozen=True)
class Proposal:
    """A trial to run.

    Attributes:
        number: of the trial.
        overrides: of its job.
    """

    number: int
    overrides: list[str]

    @property
    def settings(self) -> Settings:
        """What makes the job what it is."""
        return settings_of(self.overrides)


class Search:
    """A search in its folder; see ``opened``.

    Args:
        storage: the database.
        space: what is fixed and what is searched.
        config: how to search.
        objective: SPLIT.KEY that is minimised.
        folder: of the sweep.
    """

    def __init__(
        self, storage: RDBStorage, space: Space, config: SearchConfig, objective: str, folder: Path
    ) -> None:
        self.storage, self.space, self.config = storage, space, config
        self.objective, self.folder = objective, folder
        self.distributions = {key: distribution(dim) for key, dim in space.searched.items()}
        self.study = optuna.create_study(
            study_name=STUDY, storage=storage, load_if_exists=True, direction="minimize"
        )
        self._running: dict[int, Trial] = {}
        self._duplicates: dict[int, int] = {}  # trial -> one of the same settings that is running
        self._compare()
        pruner = (config.pruner.value, config.prune_min_trials, config.prune_warmup_ratio)
        self.study.set_user_attr("pruner", pruner)

    def _compare(self) -> None:
        """Refuses to mix two searches in one folder."""
        mine = self.space.description() | {"objective": f"objective={self.objective}"}
        begun = self.study.user_attrs.get("space")
        if begun is None:
            self.study.set_user_attr("space", mine)
            return
        for key in {**begun, **mine}:
            if begun.get(key) != mine.get(key):
                raise ConfigError(
                    f"{self.folder}: this search was begun with "
                    f"{begun.get(key, f'no setting of {key}')}, not with "
                    f"{mine.get(key, f'no setting of {key}')}: its figures would not compare; "
                    "begin another search, in a folder of its own"
                )

    @property
    def trials(self) -> list[FrozenTrial]:
        """All that there are."""
        return self.study.get_trials(deepcopy=False)

    def release(self) -> None:
        """Turns trials whose job has died into waiting ones; one that was pruned is over."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if PRUNED in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.PRUNED)
            else:
                self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def log_resumed(self) -> None:
        """Tells how far earlier commands have come."""
        trials = self.trials
        if trials:
            ended = sum(trial.state.is_finished() for trial in trials)
            logger.info(
                "%s: %d of %d trials done before, %d taken up again",
                self.folder / DATABASE,
                ended,
                max(self.config.n_trials, len(trials)),
                len(trials) - ended,
            )

    def propose(self, count: int) -> list[Proposal]:
        """The next trials to run; none when there are as many as were asked for.

        A trial whose settings another one had before it takes that one's figure.

        Args:
            count: at most so many.
        """
        proposals: dict[Settings, Proposal] = {}
        while len(proposals) < count and (number := self._upcoming()) is not None:
            self.study.sampler = sampler_of(self.config, number)
            trial = self.study.ask(self.distributions)
            overrides = self.space.overrides(trial.params)
            trial.set_user_attr("overrides", overrides)
            proposal = Proposal(trial.number, overrides)
            self._running[trial.number] = trial
            earlier = self._finished(proposal.settings)
            if earlier is not None:
                logger.info("trial %d: the settings of trial %d", trial.number, earlier.number)
                self._end(trial.number, earlier.state, earlier.values, reason(earlier))
            elif (first := proposals.get(proposal.settings)) is not None:
                self._duplicates[trial.number] = first.number
            else:
                proposals[proposal.settings] = proposal
        return list(proposals.values())

    def _upcoming(self) -> int | None:
        """The number of the next trial: one that waits to be taken up, or a new one."""
        trials = self.trials
        waiting = (trial.number for trial in trials if trial.state is TrialState.WAITING)
        new = len(trials) if len(trials) < self.config.n_trials else None
        return next(waiting, new)

    def _finished(self, settings: Settings) -> FrozenTrial | None:
        """The first trial of these settings that has come to an end."""
        for trial in self.trials:
            same = settings_of(trial.user_attrs.get("overrides", ())) == settings
            if trial.state.is_finished() and same:
                return trial
        return None

    def tell(self, number: int, result: float | BaseException) -> None:
        """Notes how the job of a trial ended, and tells the user.

        A loss that was not finite speaks against the settings, and the sampler learns it as it
        learns of pruned trials; other failures say nothing about them. The job itself has noted
        that in the database: launchers may give another exception than it ended with.

        Args:
            number: of the trial.
            result: what is to be minimised, or why there is nothing.

        Raises:
            OutputError: what keeps this trial from running would keep all from it.
        """
        if isinstance(result, OutputError):
            raise result
        twins = [twin for twin, first in self._duplicates.items() if first == number]
        for each in (number, *twins):
            self._duplicates.pop(each, None)
            if not isinstance(result, BaseException):
                self._end(each, TrialState.COMPLETE, [result])
                continue
            noted = PRUNED in self.trials[number].user_attrs
            about_settings = noted or isinstance(result, (Pruned, TrainingError))
            state = TrialState.PRUNED if about_settings else TrialState.FAIL
            self._end(each, state, None, reason_of(result))
        logger.info("%s", self._line(number))

    def _end(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        why: str = "",
    ) -> None:
        trial = self._running.pop(number)
        if why:
            trial.set_user_attr("reason", why)
        told = values if state is TrialState.COMPLETE else None
        self.study.tell(trial, told, state=state)

    def _line(self, number: int) -> str:
        """How a trial ended, and the best so far."""
        trials = self.trials
        trial, best = trials[number], best_of(trials)
        settings = (f"{k}={d.text(trial.params[k])}" for k, d in self.space.searched.items())
        result = reason(trial) or f"{self.objective} {shown(trial.value)}"
        known = f" (best: {shown(best.value)}, trial {best.number})" if best else ""
        total = max(self.config.n_trials, len(trials))
        ended = sum(trial.state.is_finished() for trial in trials)
        return f"trial {number} ({ended} of {total}): {result}{known}; {' '.join(settings)}"

    def check(self) -> None:
        """Gives up where going on promises nothing.

        Raises:
            SearchError: the first trials have all failed.
        """
        ended = [trial for trial in self.trials if trial.state.is_finished()]
        failed = [trial for trial in ended if trial.state is TrialState.FAIL]
        if len(ended) == len(failed) >= min(GIVE_UP, self.config.n_trials):
            raise SearchError(
                f"all of the first {len(failed)} trials failed, {last_reason(failed)}"
            )

    def require_result(self) -> None:
        """Says that the search is over.

        Raises:
            SearchError: no trial has a finite figure.
        """
        trials = self.trials
        if best_of(trials) is None:
            raise SearchError(
                f"none of the {len(trials)} trials has come to a finite {self.objective}, "
                + last_reason(trials)
            )


@contextmanager
def opened(folder: Path, space: Space, config: SearchConfig, objective: str) -> Iterator[Search]:
    """A search in its folder, begun there or gone on with; one process at a time has it.

    Raises:
        OutputError: another process has it, or the database cannot be used.
        ConfigError: the search that was begun there is another one.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    taken = f"{folder}: another process searches in there; wait for it or end it first"
    with alone(folder / ".search.lock", taken), storage_of(folder) as storage:
        search = Search(storage, space, config, objective, folder)
        search.release()
        search.log_resumed()
        try:
            yield search
        finally:
            search.release()
