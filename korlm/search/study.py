"""The memory of a search: its trials in search.db, by Optuna (Akiba et al. 2019).

A trial is RUNNING while its job is; whatever ends the command turns it back to WAITING, and the
next command takes it up under its number, with its settings and so in its folder. Each proposal has
a sampler of its own, seeded by the trial's number: a search that is resumed proposes what an
undisturbed one would have, and not its first trials anew.
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
from filelock import FileLock, Timeout
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from korlm.config import Pruner, Sampler, SearchConfig
from korlm.errors import ConfigError, KorlmError, OutputError, Pruned, SearchError, TrainingError
from korlm.search.space import Dimension, Space
from korlm.search.watching import DATABASE, MOMENTS, PRUNED
from korlm.sweep_folder import job_settings

logger = logging.getLogger(__name__)

STUDY = "korlm"
GIVE_UP = 5  # trials: when the first so many have all failed, so will the next ones
Settings = frozenset[tuple[str, str]]


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


def settings_of(overrides: Sequence[str]) -> Settings:
    """What makes a job what it is, of the overrides it was given."""
    return frozenset(job_settings(overrides).items())


@contextmanager
def storage_of(folder: Path) -> Iterator[RDBStorage]:
    """The database of a search, closed at the end.

    Raises:
        OutputError: it is damaged, or cannot be written.
    """
    path = (folder / DATABASE).resolve()
    with _usable(path):
        # A writer waits for the others: jobs may run side by side.
        waiting = {"connect_args": {"timeout": 60}}
        storage = RDBStorage(f"sqlite:///{path}", engine_kwargs=waiting)
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise OutputError(
            f"{path}: the search cannot use it ({reason}); make room on the disk, or remove the "
            "file: the search begins anew, and jobs that are done are not run again"
        ) from error


def distribution(dim: Dimension) -> BaseDistribution:
    """A dimension in Optuna's words."""
    if dim.choices:
        return CategoricalDistribution(dim.choices)
    if dim.whole:
        step = 1 if dim.step is None else int(dim.step)
        return IntDistribution(int(dim.low), int(dim.high), log=dim.log, step=step)
    return FloatDistribution(float(dim.low), float(dim.high), log=dim.log, step=dim.step)


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
        self._twins: dict[int, int] = {}  # trial -> one of the same settings that is running
        self._compare()
        pruner = (config.pruner.value, config.prune_trials, config.prune_share)
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

    def greet(self) -> None:
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
            self.study.sampler = _sampler(self.config, number)
            trial = self.study.ask(self.distributions)
            overrides = self.space.overrides(trial.params)
            trial.set_user_attr("overrides", overrides)
            proposal = Proposal(trial.number, overrides)
            self._running[trial.number] = trial
            earlier = self._finished(proposal.settings)
            if earlier is not None:
                logger.info("trial %d: the settings of trial %d", trial.number, earlier.number)
                self._end(trial.number, earlier.state, earlier.values, earlier.user_attrs)
            elif (first := proposals.get(proposal.settings)) is not None:
                self._twins[trial.number] = first.number
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
        learns of pruned trials; other failures say nothing about them.

        Args:
            number: of the trial.
            result: what is to be minimised, or why there is nothing.

        Raises:
            OutputError: what keeps this trial from running would keep all from it.
        """
        if isinstance(result, OutputError):
            raise result
        twins = [twin for twin, first in self._twins.items() if first == number]
        for each in (number, *twins):
            self._twins.pop(each, None)
            if not isinstance(result, BaseException):
                self._end(each, TrialState.COMPLETE, [result], {})
                continue
            about_settings = isinstance(result, (Pruned, TrainingError))
            state = TrialState.PRUNED if about_settings else TrialState.FAIL
            self._end(each, state, None, {"reason": reason_of(result)})
        logger.info("%s", self._line(number))

    def _end(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        attrs: dict[str, object],
    ) -> None:
        trial = self._running.pop(number)
        if "reason" in attrs:
            trial.set_user_attr("reason", attrs["reason"])
        told = values if state is TrialState.COMPLETE else None
        self.study.tell(trial, told, state=state)

    def _line(self, number: int) -> str:
        """How a trial ended, and the best so far."""
        trials = self.trials
        trial, best = trials[number], best_of(trials)
        settings = (f"{k}={d.text(trial.params[k])}" for k, d in self.space.searched.items())
        result = reason(trial) or f"{self.objective} {_shown(trial.value)}"
        known = f" (best: {_shown(best.value)}, trial {best.number})" if best else ""
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
            raise SearchError(f"all of the first {len(failed)} trials failed, {_last(failed)}")

    def conclude(self) -> None:
        """Says that the search is over.

        Raises:
            SearchError: no trial has a finite figure.
        """
        trials = self.trials
        if best_of(trials) is None:
            raise SearchError(
                f"none of the {len(trials)} trials has come to a finite {self.objective}, "
                + _last(trials)
            )


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial of the smallest finite value."""
    whole = [t for t in trials if t.state is TrialState.COMPLETE and math.isfinite(t.value or 0.0)]
    return min(whole, key=lambda trial: trial.value or 0.0, default=None)


def _last(trials: Sequence[FrozenTrial]) -> str:
    reasons = [text for trial in trials if (text := reason(trial))]
    return f"the last with: {reasons[-1]}" if reasons else "each being beyond all floats"


def reason(trial: FrozenTrial) -> str:
    """Why a trial has no figure; empty if it has one."""
    has_figure = trial.state is TrialState.COMPLETE
    return "" if has_figure else str(trial.user_attrs.get("reason", trial.user_attrs.get(PRUNED)))


def _shown(value: float | None) -> str:
    assert value is not None
    return f"{abs(value):,.4f}" if math.isfinite(value) else "infinite"


def reason_of(error: BaseException) -> str:
    """Why a job failed, in one line."""
    text = str(error) if isinstance(error, KorlmError) else f"{type(error).__name__}: {error}"
    if isinstance(error.__cause__, OmegaConfBaseException):  # Hydra names the setting, it the why
        text = f"{error}: {str(error.__cause__).splitlines()[0]}"
    return " ".join(text.split())


def _sampler(config: SearchConfig, number: int) -> optuna.samplers.BaseSampler:
    """Who proposes the trial of this number."""
    seed = (config.seed * 1_000_003 + number) % 2**32
    if config.sampler is Sampler.random:
        return optuna.samplers.RandomSampler(seed)
    with warnings.catch_warnings():  # Optuna warns of its own default being experimental
        warnings.simplefilter("ignore")
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=config.startup_trials, multivariate=True, constant_liar=True
        )


def study_for_jobs(storage: RDBStorage) -> optuna.Study:
    """The search as its jobs see it, with the pruner that it was opened with."""
    study = optuna.load_study(
        study_name=STUDY, storage=storage, sampler=optuna.samplers.RandomSampler(0)
    )
    name, trials, share = study.user_attrs["pruner"]
    if name == Pruner.median.value:
        warmup = round(share * MOMENTS)
        study.pruner = optuna.pruners.MedianPruner(trials, warmup, n_min_trials=trials)
    else:
        study.pruner = optuna.pruners.NopPruner()
    return study


def running_trial(study: optuna.Study, overrides: Sequence[str]) -> int | None:
    """The id of the trial that a job runs for.

    Args:
        study: the search.
        overrides: of the job.
    """
    mine = settings_of(overrides)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if settings_of(trial.user_attrs.get("overrides", ())) == mine:
            return trial._trial_id
    return None


@contextmanager
def opened(folder: Path, space: Space, config: SearchConfig, objective: str) -> Iterator[Search]:
    """A search in its folder, begun there or gone on with; one process at a time has it.

    Raises:
        OutputError: another process has it, or the database cannot be used.
        ConfigError: the search that was begun there is another one.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    lock = FileLock(folder / ".search.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(
            f"{folder}: another process searches in there; wait for it or end it first"
        ) from None
    try:
        with storage_of(folder) as storage:
            search = Search(storage, space, config, objective, folder)
            search.release()
            search.greet()
            try:
                yield search
            finally:
                search.release()
    finally:
        lock.release()
