"""The job's side of a search: tells it the figures of each validation, and ends a hopeless trial.

Jobs may run in any process: they find the search in the folder of the sweep, and their trial by
their overrides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from korlm.config.objective import cost
from korlm.sweeps.search.names import DATABASE, PROGRESS_RESOLUTION, PRUNED
from korlm.utils.errors import Pruned, TrainingError, require_extra

if TYPE_CHECKING:
    import optuna


QUALITY = ("loss", "perplexity", "perplexity_known", "eojeol_perplexity", "bits_per_char")


@dataclass
class PruningCallback:
    """Looks at each validation of one trial.

    Attributes:
        study: the search.
        trial_id: of the trial in it.
        objective: SPLIT.KEY that is minimised; KEY of valid stands for it until the end.
    """

    study: optuna.Study
    trial_id: int
    objective: str

    def __call__(self, step: int, share: float, figures: Mapping[str, float]) -> None:
        """Notes a validation.

        Args:
            step: optimizer steps done.
            share: of all steps of the run.
            figures: of valid, as metrics.json has them.

        Raises:
            Pruned: others were better at this share of their training.
        """
        key = self.objective.partition(".")[2]
        if key not in QUALITY:
            return
        storage, moment = self.study._storage, round(share * PROGRESS_RESOLUTION)
        value = cost(self.objective, figures[key])
        storage.set_trial_intermediate_value(self.trial_id, moment, value)
        trial = storage.get_trial(self.trial_id)
        if share < 1 and self.study.pruner.prune(self.study, trial):
            reason = (
                f"pruned at step {step}, {share:.0%} of its training: valid.{key} {value:.4g}, "
                "worse than the median of the trials before it"
            )
            self.note(reason)
            raise Pruned(reason)

    def note(self, reason: str) -> None:
        """Tells the search why the settings are hopeless; an exception may not reach it whole."""
        self.study._storage.set_trial_user_attr(self.trial_id, PRUNED, reason)


@contextmanager
def watching(
    sweep: Path, overrides: Sequence[str], objective: str
) -> Iterator[PruningCallback | None]:
    """What watches over a job, if it is a trial of a search.

    Args:
        sweep: folder of the sweep.
        overrides: of the job.
        objective: SPLIT.KEY that is minimised.
    """
    if not (sweep / DATABASE).is_file():
        yield None
        return
    with require_extra("optuna"):
        from korlm.sweeps.search.storage import running_trial, storage_of, study_for_jobs
    with storage_of(sweep) as storage:
        study = study_for_jobs(storage)
        trial_id = running_trial(study, overrides)
        if trial_id is None:
            yield None
            return
        watcher = PruningCallback(study, trial_id, objective)
        try:
            yield watcher
        except TrainingError as error:
            watcher.note(str(error))
            raise
