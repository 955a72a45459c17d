"""Keep the trials of a search in search.db, with their results (Optuna; Akiba et al. 2019).

A trial is RUNNING while its job runs. If the command ends before the job, the trial becomes
WAITING, and the next command resumes it with the same number, settings and folder. Each trial has a
sampler of its own, seeded by its number, so that a resumed search proposes the same settings as an
uninterrupted one.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from korlm.config import Sampler, SearchConfig
from korlm.config.metrics import cost
from korlm.sweeps.folder import Settings, settings_of
from korlm.sweeps.search.database import DATABASE, PRUNED, STUDY, storage_of
from korlm.sweeps.search.space import Dimension, Space
from korlm.utils.errors import (
    ConfigError,
    OutputError,
    Pruned,
    SearchError,
    TrainingError,
    reason_of,
)
from korlm.utils.io.atomic_files import locked

logger = logging.getLogger(__name__)

GIVE_UP = 5  # give up if this many first trials have all failed


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


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the complete trial with the smallest finite value; None if there is none."""
    finished = [
        t for t in trials if t.state is TrialState.COMPLETE and math.isfinite(t.value or 0.0)
    ]
    return min(finished, key=lambda trial: trial.value or 0.0, default=None)


def last_failure(trials: Sequence[FrozenTrial]) -> str:
    """Return a text about why the last finished trial without a result has none."""
    reasons = [text for trial in trials if (text := failure_reason(trial))]
    return f"the last with: {reasons[-1]}" if reasons else "no objective is finite"


def failure_reason(trial: FrozenTrial) -> str:
    """Return why a finished trial has no result; empty if it has one or is not finished."""
    if trial.state is TrialState.COMPLETE or not trial.state.is_finished():
        return ""
    return str(trial.user_attrs.get(PRUNED, trial.user_attrs.get("reason")))


def format_objective(objective: str, value: float | None) -> str:
    """Return the metric of a trial as text, given its cost.

    >>> format_objective("valid.accuracy", -0.5), format_objective("valid.perplexity", 1234.5)
    ('0.5000', '1,234.5000')
    """
    metric = cost(objective, value)  # the negative of a negative, if larger is better
    return f"{metric + 0.0:,.4f}" if math.isfinite(metric) else "infinite"  # 0, not -0


@dataclass(frozen=True)
class Proposal:
    """Number of a trial to run, and the overrides of its job."""

    number: int
    overrides: list[str]

    @property
    def settings(self) -> Settings:
        """Return the settings that identify the job."""
        return settings_of(self.overrides)


class Search:
    """A search in its folder; see ``open_search``."""

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
        self._duplicates: dict[int, int] = {}  # trial -> first trial of the same batch
        self._compare()
        pruner = (config.pruner.value, config.prune_min_trials, config.prune_warmup_ratio)
        self.study.set_user_attr("pruner", pruner)

    def _compare(self) -> None:
        """Raise ``ConfigError`` if this search differs from the one in the database.

        The sampler and the pruner may change.
        """
        current = self.space.description() | {"objective": f"objective={self.objective}"}
        stored = self.study.user_attrs.get("space")
        if stored is None:
            self.study.set_user_attr("space", current)
            return
        for key in {**stored, **current}:
            if stored.get(key) != current.get(key):
                raise ConfigError(
                    f"{self.folder}: this search was started with "
                    f"{stored.get(key, f'no setting of {key}')}, not with "
                    f"{current.get(key, f'no setting of {key}')}: results would not be comparable; "
                    "start another search in a new folder"
                )

    @property
    def trials(self) -> list[FrozenTrial]:
        """Return all trials."""
        return self.study.get_trials(deepcopy=False)

    def requeue_running(self) -> None:
        """Set the state of running trials to waiting, or to pruned if their jobs were pruned."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if PRUNED in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.PRUNED)
            else:
                self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def log_resumed(self) -> None:
        """Log the progress of earlier commands."""
        trials = self.trials
        if trials:
            ended = sum(trial.state.is_finished() for trial in trials)
            logger.info(
                "%s: %d of %d trials finished before, %d resumed",
                self.folder / DATABASE,
                ended,
                max(self.config.n_trials, len(trials)),
                len(trials) - ended,
            )

    def propose(self, count: int) -> list[Proposal]:
        """Return up to ``count`` next trials that need a job; none if ``n_trials`` is reached.

        A trial with the same settings as an earlier one gets the result of that one, also if it
        failed. Such duplicates consume trial numbers too.
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
                logger.info("trial %d: same settings as trial %d", trial.number, earlier.number)
                why = failure_reason(earlier)
                self._store_end(trial.number, earlier.state, earlier.values, why)
            elif (first := proposals.get(proposal.settings)) is not None:
                self._duplicates[trial.number] = first.number
            else:
                proposals[proposal.settings] = proposal
        return list(proposals.values())

    def _upcoming(self) -> int | None:
        """Return the number of the next trial, waiting or new; None if there is none."""
        trials = self.trials
        waiting = (trial.number for trial in trials if trial.state is TrialState.WAITING)
        new = len(trials) if len(trials) < self.config.n_trials else None
        return next(waiting, new)

    def _finished(self, settings: Settings) -> FrozenTrial | None:
        """Return the first finished trial with these settings; None if there is none."""
        for trial in self.trials:
            same = settings_of(trial.user_attrs.get("overrides", ())) == settings
            if trial.state.is_finished() and same:
                return trial
        return None

    def record(self, number: int, result: float | BaseException) -> None:
        """Record and log the result of a trial.

        If the loss is not finite, the trial counts as pruned, since the settings are the cause and
        the sampler should avoid them; other failures are not reported to the sampler. The job has
        stored the reason in the database, because launchers may lose its exception.

        Args:
            number: the number of a proposal.
            result: the cost, to be minimized, never NaN; or the error that ended the job.

        Raises:
            OutputError: ``result``, if it would affect all other trials as well.
        """
        if isinstance(result, OutputError):
            raise result
        duplicates = [trial for trial, first in self._duplicates.items() if first == number]
        for each in (number, *duplicates):
            self._duplicates.pop(each, None)
            if not isinstance(result, BaseException):
                self._store_end(each, TrialState.COMPLETE, [result])
                continue
            is_pruned = PRUNED in self.trials[number].user_attrs
            about_settings = is_pruned or isinstance(result, (Pruned, TrainingError))
            state = TrialState.PRUNED if about_settings else TrialState.FAIL
            self._store_end(each, state, None, reason_of(result))
        logger.info("%s", self._result_line(number))

    def _store_end(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        why: str = "",
    ) -> None:
        """Store the final state of a trial, with the reason if it has no values."""
        trial = self._running.pop(number)
        if why:
            trial.set_user_attr("reason", why)
        final = values if state is TrialState.COMPLETE else None
        self.study.tell(trial, final, state=state)

    def _result_line(self, number: int) -> str:
        """Return a line with the result of a trial and the best one so far."""
        trials = self.trials
        trial, best = trials[number], best_of(trials)
        settings = (f"{k}={d.text(trial.params[k])}" for k, d in self.space.searched.items())
        metric = format_objective(self.objective, trial.value)
        result = failure_reason(trial) or f"{self.objective} {metric}"
        best_text = ""
        if best:
            best_metric = format_objective(self.objective, best.value)
            best_text = f" (best: {best_metric}, trial {best.number})"
        total = max(self.config.n_trials, len(trials))
        ended = sum(trial.state.is_finished() for trial in trials)
        return f"trial {number} ({ended} of {total}): {result}{best_text}; {' '.join(settings)}"

    def check(self) -> None:
        """Raise ``SearchError`` if the first trials have all failed."""
        ended = [trial for trial in self.trials if trial.state.is_finished()]
        failed = [trial for trial in ended if trial.state is TrialState.FAIL]
        if len(ended) == len(failed) >= min(GIVE_UP, self.config.n_trials):
            raise SearchError(
                f"all of the first {len(failed)} trials failed, {last_failure(failed)}"
            )

    def require_result(self) -> None:
        """Raise ``SearchError`` if no trial has a finite objective."""
        trials = self.trials
        if best_of(trials) is None:
            raise SearchError(
                f"none of the {len(trials)} trials has a finite {self.objective}, "
                + last_failure(trials)
            )


@contextmanager
def open_search(
    folder: Path, space: Space, config: SearchConfig, objective: str
) -> Iterator[Search]:
    """Open the search in a folder, exclusively; create it if it does not exist.

    Raises:
        OutputError: another process runs the search, or the database cannot be used.
        ConfigError: the folder contains a different search.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    taken = f"{folder}: another process runs this search; wait for it or stop it first"
    with locked(folder / ".search.lock", taken), storage_of(folder) as storage:
        search = Search(storage, space, config, objective, folder)
        search.requeue_running()
        search.log_resumed()
        try:
            yield search
        finally:
            search.requeue_running()
