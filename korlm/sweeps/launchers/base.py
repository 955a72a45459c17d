"""Base class of the launchers, and the log of starting and finished jobs."""

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
    """Runs the jobs of a sweep in other processes; logs when one starts or ends."""

    context: HydraContext
    config: DictConfig

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store Hydra's context; called once, before the first job."""
        self.context, self.config = hydra_context, config
        name = config.hydra.job.config_name
        if name != "train":  # only train has a folder per job and can resume
            raise ConfigError(
                f"hydra/launcher={config.hydra.runtime.choices['hydra/launcher']}: runs jobs of "
                f"korlm.train, not of korlm.{name}; remove it"
            )

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run all jobs and return their results in order."""
        setup_globals()
        hydra = self.config.hydra
        configure_log(hydra.hydra_logging, hydra.verbose)
        specs = [
            self._spec(overrides, initial_job_idx + at)
            for at, overrides in enumerate(job_overrides)
        ]
        results: dict[int, JobResult] = {}
        for spec in specs:
            if is_finished(spec.folder):
                results[spec.number] = run(spec)  # only reads its metrics
                configure_log(hydra.hydra_logging, hydra.verbose)
        missing = [spec for spec in specs if spec.number not in results]
        if missing:
            progress = ProgressLogger(self.config.objective, len(missing))
            try:
                results |= self.run_all(missing, progress)
            finally:
                for spec in missing:
                    with contextlib.suppress(OSError):
                        spec.folder.rmdir()  # empty: the sweep ended before the job started
        return [_to_job_return(spec, results[spec.number]) for spec in specs]

    def _spec(self, overrides: Sequence[str], number: int) -> JobSpec:
        """Return the job with its folder, chosen here since parallel jobs cannot coordinate."""
        sweep = Path(str(self.config.hydra.sweep.dir)).absolute()
        folder = sweep / job_dir(str(sweep), number, of_the_job(overrides))
        return JobSpec(self.context, self.config, tuple(overrides), number, folder)

    @abstractmethod
    def run_all(self, specs: Sequence[JobSpec], progress: ProgressLogger) -> dict[int, JobResult]:
        """Run jobs; return number -> result.

        Raises:
            KeyboardInterrupt: after Ctrl-C, when all jobs have written last.pt and stopped.
        """

    @property
    def threads(self) -> int | None:
        """Return the number of threads of each job; None: PyTorch's default."""
        count = self.config.trainer.threads
        return None if count is None else int(count)

    @property
    def may_use_gpus(self) -> bool:
        """Return whether the settings allow jobs to use GPUs."""
        return str(self.config.trainer.device.value) in ("auto", "cuda")


@dataclass
class ProgressLogger:
    """Logs a line for each job that starts or ends; further output is in the job's files.

    Attributes:
        objective: SPLIT.KEY of the value of a result.
        total: number of jobs.
    """

    objective: str
    total: int
    ended: int = 0
    starts: dict[int, float] = field(default_factory=dict)

    def start(self, spec: JobSpec, where: str = "") -> None:
        """Log that a job starts."""
        self.starts[spec.number] = time.monotonic()
        logger.info("job %s starts%s", spec.folder.name, where)

    def end(self, spec: JobSpec, result: JobResult) -> JobResult:
        """Log how a job ended; return its result."""
        self.ended += 1
        seconds = time.monotonic() - self.starts[spec.number]
        count = f"{self.ended} of {self.total}"
        name = spec.folder.name
        if result.value is not None:
            negated = self.objective.partition(".")[2] in LARGER_IS_BETTER
            value = -result.value if negated else result.value
            text = "job %s finished (%s) after %.0f s: %s %.4g"
            logger.info(text, name, count, seconds, self.objective, value)
        elif result.is_stopped:
            logger.info("job %s stopped (%s) after %.0f s", name, count, seconds)
        elif result.is_pruned:
            logger.info("job %s ended (%s) after %.0f s: %s", name, count, seconds, result.failure)
        else:
            logger.error(
                "job %s failed (%s) after %.0f s: %s", name, count, seconds, result.failure
            )
        return result


def _to_job_return(spec: JobSpec, result: JobResult) -> JobReturn:
    job = JobReturn(overrides=list(spec.overrides), working_dir=str(Path.cwd()))
    if result.value is not None:
        job.status, job.return_value = JobStatus.COMPLETED, result.value
    else:
        reason = result.failure or "stopped by a signal"
        job.status = JobStatus.FAILED
        # A search needs the exception class, and words the message for pruned trials itself.
        kind = getattr(errors, result.kind, SweepError)
        where = "" if result.is_pruned else f"job {spec.folder.name}: "
        job.return_value = kind(where + reason)
    return job


def record_crash(spec: JobSpec, reason: str) -> JobResult:
    """Record and return the result of a job whose process died."""
    note_failure(spec.folder, SweepError(reason))
    return JobResult(failure=reason)
