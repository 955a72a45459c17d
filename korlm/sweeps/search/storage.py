"""Open the database of a search, which the search and its jobs share."""

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
    """Open the database of a search within the block.

    Raises:
        OutputError: the database is damaged, or cannot be written.
    """
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
    settings = settings_of(overrides)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if settings_of(trial.user_attrs.get("overrides", ())) == settings:
            return trial._trial_id
    return None
