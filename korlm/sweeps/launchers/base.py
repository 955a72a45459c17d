"""What launchers have in common: orders from overrides, a line a job, Hydra's word of the end."""

from __future__ import annotations

import contextlib
import logging
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from korlm.config.objective import LARGER_IS_BETTER
from korlm.runs.directories import is_finished
from korlm.sweeps.folder import job_dir
from korlm.sweeps.launchers.job import JobResult, JobSpec, of_the_job, run
from korlm.sweeps.results import note_failure
from korlm.utils import errors
from korlm.utils.errors import ConfigError, SweepError

logger = logging.getLogger(__name__)


class KorlmLauncher(Launcher):
    """Starts the jobs of a sweep in other processes, and tells a line when one starts or ends."""

    context: HydraContext
    config: DictConfig

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's: called once, before the first job."""
        self.context, self.config = hydra_context, config
        name = config.hydra.job.config_name
        if name != "train":  # others have no folder for each job, and nothing to go on with
            raise ConfigError(
                f"hydra/launcher={config.hydra.runtime.choices['hydra/launcher']}: starts jobs of "
                f"korlm.train, not of korlm.{name}; leave it out"
            )

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Hydra's: does all jobs, and gives what each ended with, in their order."""
        setup_globals()
        hydra = self.config.hydra
        configure_log(hydra.hydra_logging, hydra.verbose)
        orders = [
            self._order(overrides, initial_job_idx + at)
            for at, overrides in enumerate(job_overrides)
        ]
        found: dict[int, JobResult] = {}
        for order in orders:
            if is_finished(order.folder):
                found[order.number] = run(order)  # reads its figures
                configure_log(hydra.hydra_logging, hydra.verbose)
        missing = [order for order in orders if order.number not in found]
        if missing:
            telling = ProgressLogger(self.config.objective, len(missing))
            try:
                found |= self.run_all(missing, telling)
            finally:
                for order in missing:
                    with contextlib.suppress(OSError):
                        order.folder.rmdir()  # empty: the sweep has ended before
        return [_to_job_return(order, found[order.number]) for order in orders]

    def _order(self, overrides: Sequence[str], number: int) -> JobSpec:
        """The folder is chosen here: jobs that start together must not have to agree on it."""
        place = Path(str(self.config.hydra.sweep.dir)).absolute()
        folder = place / job_dir(str(place), number, of_the_job(overrides))
        return JobSpec(self.context, self.config, tuple(overrides), number, folder)

    @abstractmethod
    def run_all(self, orders: Sequence[JobSpec], telling: ProgressLogger) -> dict[int, JobResult]:
        """Does jobs; gives the outcome of each by its number.

        Raises:
            KeyboardInterrupt: the user wants the end; jobs were told and have written last.pt.
        """

    @property
    def threads(self) -> int | None:
        """Of each job; None: left to PyTorch."""
        count = self.config.trainer.threads
        return None if count is None else int(count)

    @property
    def may_use_gpus(self) -> bool:
        """Whether the settings let jobs use GPUs where there are any."""
        return str(self.config.trainer.device.value) in ("auto", "cuda")


@dataclass
class ProgressLogger:
    """A line on the terminal for each job that starts or ends; the rest stands in its own files.

    Attributes:
        objective: what the value of an outcome is.
        total: how many jobs there are.
    """

    objective: str
    total: int
    ended: int = 0
    starts: dict[int, float] = field(default_factory=dict)

    def start(self, order: JobSpec, where: str = "") -> None:
        """A job starts."""
        self.starts[order.number] = time.monotonic()
        logger.info("job %s starts%s", order.folder.name, where)

    def end(self, order: JobSpec, outcome: JobResult) -> JobResult:
        """A job has ended."""
        self.ended += 1
        seconds = time.monotonic() - self.starts[order.number]
        count = f"{self.ended} of {self.total}"
        name = order.folder.name
        if outcome.value is not None:
            negated = self.objective.partition(".")[2] in LARGER_IS_BETTER
            value = -outcome.value if negated else outcome.value
            text = "job %s finished (%s) after %.0f s: %s %.4g"
            logger.info(text, name, count, seconds, self.objective, value)
        elif outcome.is_stopped:
            logger.info("job %s stopped (%s) after %.0f s", name, count, seconds)
        elif outcome.is_pruned:
            logger.info("job %s ended (%s) after %.0f s: %s", name, count, seconds, outcome.failure)
        else:
            logger.error(
                "job %s failed (%s) after %.0f s: %s", name, count, seconds, outcome.failure
            )
        return outcome


def _to_job_return(order: JobSpec, outcome: JobResult) -> JobReturn:
    job = JobReturn(overrides=list(order.overrides), working_dir=str(Path.cwd()))
    if outcome.value is not None:
        job.status, job.return_value = JobStatus.COMPLETED, outcome.value
    else:
        reason = outcome.failure or "stopped by a signal"
        job.status = JobStatus.FAILED
        # A search asks what kind of failure it was, and has words of its own for pruned trials.
        kind = getattr(errors, outcome.kind, SweepError)
        where = "" if outcome.is_pruned else f"job {order.folder.name}: "
        job.return_value = kind(where + reason)
    return job


def record_crash(order: JobSpec, reason: str) -> JobResult:
    """The outcome of a job whose process could not say anything itself."""
    note_failure(order.folder, SweepError(reason))
    return JobResult(failure=reason)
