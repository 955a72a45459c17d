"""Open the database of a search, which the search and its jobs share; report and prune a trial.

A job may run in any process: it opens the search in the folder of the sweep, and finds its trial by
its overrides. Optuna is imported late, as every job of a sweep imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from korlm.config import Pruner
from korlm.config.metrics import cost, metric_of
from korlm.sweeps.folder import settings_of
from korlm.utils.errors import OutputError, Pruned, TrainingError

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage

DATABASE = "search.db"  # file in the folder of a sweep
STUDY = "korlm"
PRUNED = "pruned"  # attribute of a trial that has the reason why its job was pruned

# Optuna's steps are integers: here, the fraction of training times this number. Optimizer steps
# could not be compared between trials with different batch sizes.
PROGRESS_RESOLUTION = 1_000_000


@contextmanager
def storage_of(folder: Path) -> Iterator[RDBStorage]:
    """Open the database of a search within the block.

    Raises:
        OutputError: the database is damaged, or cannot be written.
    """
    import optuna
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import URL
    from sqlalchemy.exc import SQLAlchemyError

    path = (folder / DATABASE).resolve()
    url = URL.create("sqlite", database=str(path)).render_as_string()  # escapes special characters
    try:
        # Jobs write in parallel and wait for each other.
        storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise OutputError(
            f"{path}: the search cannot use it ({reason}); free disk space, or delete the file: "
            "the search then starts over, and finished jobs are not run again"
        ) from error


def study_for_jobs(storage: RDBStorage) -> optuna.Study:
    """Return the study for a job, with the pruner of the search."""
    import optuna

    study = optuna.load_study(
        study_name=STUDY, storage=storage, sampler=optuna.samplers.RandomSampler(0)
    )
    name, trials, warmup_ratio = study.user_attrs["pruner"]
    if name == Pruner.median.value:
        warmup = round(warmup_ratio * PROGRESS_RESOLUTION)
        study.pruner = optuna.pruners.MedianPruner(trials, warmup, n_min_trials=trials)
    else:
        study.pruner = optuna.pruners.NopPruner()
    return study


def running_trial(study: optuna.Study, overrides: Sequence[str]) -> int | None:
    """Return the id of the trial that a job belongs to; None if there is none."""
    from optuna.trial import TrialState

    settings = settings_of(overrides)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if settings_of(trial.user_attrs.get("overrides", ())) == settings:
            return trial._trial_id
    return None


@dataclass
class PruningCallback:
    """Validation callback of one trial.

    Attributes:
        objective: SPLIT.KEY of the metric to minimize; pruning uses KEY of valid.
    """

    study: optuna.Study
    trial_id: int
    objective: str

    def __call__(self, step: int, progress: float, metrics: Mapping[str, float]) -> None:
        """Report a validation.

        Raises:
            Pruned: other trials were better at this point of training.
        """
        key = self.objective.partition(".")[2]
        if not metric_of(key).is_quality:  # such as speed
            return
        storage = self.study._storage
        value = cost(self.objective, metrics.get(key))
        at = round(progress * PROGRESS_RESOLUTION)
        storage.set_trial_intermediate_value(self.trial_id, at, value)
        trial = storage.get_trial(self.trial_id)
        if progress < 1 and self.study.pruner.prune(self.study, trial):
            reason = (
                f"pruned at step {step}, {progress:.0%} of its training: valid.{key} "
                f"{metrics.get(key, math.nan):.4g}, worse than the median of the trials before it"
            )
            self.record_reason(reason)
            raise Pruned(reason)

    def record_reason(self, reason: str) -> None:
        """Store the reason why the trial ended, since launchers may lose the exception."""
        self.study._storage.set_trial_user_attr(self.trial_id, PRUNED, reason)


@contextmanager
def open_callback(
    sweep: Path, overrides: Sequence[str], objective: str
) -> Iterator[PruningCallback | None]:
    """Yield the pruning callback of a job, or None if it is not a trial of a search."""
    if not (sweep / DATABASE).is_file():
        yield None
        return
    with storage_of(sweep) as storage:
        study = study_for_jobs(storage)
        trial_id = running_trial(study, overrides)
        if trial_id is None:
            yield None
            return
        callback = PruningCallback(study, trial_id, objective)
        try:
            yield callback
        except TrainingError as error:
            callback.record_reason(str(error))
            raise
