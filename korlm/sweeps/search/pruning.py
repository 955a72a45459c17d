"""Report each validation of a job to the search, and stop a bad trial.

A job may run in any process: it opens the search in the folder of the sweep, and finds its trial by
its overrides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from korlm.config.metrics import cost, metric_of
from korlm.sweeps.search.names import DATABASE, PROGRESS_RESOLUTION, PRUNED
from korlm.utils.errors import Pruned, TrainingError

if TYPE_CHECKING:
    import optuna


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
    from korlm.sweeps.search.storage import (  # slow import
        running_trial,
        storage_of,
        study_for_jobs,
    )

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
