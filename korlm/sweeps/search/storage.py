"""The file in which a search remembers its trials, as the search and its jobs open it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from korlm.config import Pruner
from korlm.sweeps.folder import settings_of
from korlm.sweeps.search.names import DATABASE, PROGRESS_RESOLUTION
from korlm.utils.errors import OutputError

STUDY = "korlm"


@contextmanager
def storage_of(folder: Path) -> Iterator[RDBStorage]:
    """The database of a search, closed at the end.

    Raises:
        OutputError: it is damaged, or cannot be written.
    """
    path = (folder / DATABASE).resolve()
    url = URL.create("sqlite", database=str(path)).render_as_string()  # of any letters
    with _usable(path):
        # A writer waits for the others: jobs may run side by side.
        waiting = {"connect_args": {"timeout": 60}}
        storage = RDBStorage(url, engine_kwargs=waiting)
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


def study_for_jobs(storage: RDBStorage) -> optuna.Study:
    """The search as its jobs see it, with the pruner that it was opened with."""
    study = optuna.load_study(
        study_name=STUDY, storage=storage, sampler=optuna.samplers.RandomSampler(0)
    )
    name, trials, share = study.user_attrs["pruner"]
    if name == Pruner.median.value:
        warmup = round(share * PROGRESS_RESOLUTION)
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
