"""Define the base class of launchers; a job is ``python -m korlm.train ... hydra.run.dir=JOB``.

The result of a job is read from the files in its folder, so that it does not matter which process
on which machine has written them. Launchers are listed in ``korlm.sweeps.hydra_plugins``, their
settings in ``korlm.config.groups.sweeps``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from korlm.cli.arguments import config_flags, key_of
from korlm.config.metrics import is_larger_better
from korlm.runs.directories import FAILED, is_finished
from korlm.sweeps.folder import job_dir
from korlm.sweeps.results import finished_cost, is_pruned, note_failure
from korlm.utils.errors import ConfigError, KorlmError, SweepError

logger = logging.getLogger(__name__)

INTERRUPTED = 130  # exit code of a command that has stopped after a signal


@dataclass(frozen=True)
class SweepJob:
    """A job of a sweep."""

    number: int
    overrides: tuple[str, ...]
    folder: Path
    command: tuple[str, ...]


class RunningJob(ABC):
    """A job that was started.

    Attributes:
        share: environment variables of its share of this machine; empty on a cluster.
        output: file with the job's output.
        name: text for the log about where the job runs, such as `` as job 12 of the queue``.
    """

    share: dict[str, str]
    output: Path
    name = ""

    @abstractmethod
    def poll(self) -> int | None:
        """Return the exit code of the job; None while it runs."""


Running = TypeVar("Running", bound=RunningJob)


class KorlmLauncher(Launcher, Generic[Running]):
    """Runs the jobs of a sweep in other processes; logs when one starts or ends.

    Attributes:
        shares: environment variables of each job that may run at a time on this machine.
    """

    config: DictConfig
    shares: Sequence[dict[str, str]] = ()
    poll_seconds = 0.2

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store the settings of the sweep; Hydra calls this once, before the first job."""
        self.config = config
        name = config.hydra.job.config_name
        if name != "train":  # only train has a folder per job and can resume
            raise ConfigError(
                f"hydra/launcher={config.hydra.runtime.choices['hydra/launcher']}: runs jobs of "
                f"korlm.train, not of korlm.{name}; remove it"
            )

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run all jobs that are not finished, and return the results of all jobs in order."""
        setup_globals()
        hydra = self.config.hydra
        configure_log(hydra.hydra_logging, hydra.verbose)
        jobs = [
            self._job(overrides, initial_job_idx + at) for at, overrides in enumerate(job_overrides)
        ]
        failures: dict[SweepJob, str] = {}
        if missing := [job for job in jobs if not is_finished(job.folder)]:
            for job in missing:
                (job.folder / FAILED).unlink(missing_ok=True)  # left by an earlier command
            try:
                with importable_korlm():
                    failures = self.run_all(missing)
            finally:
                for job in missing:
                    with contextlib.suppress(OSError):
                        job.folder.rmdir()  # empty: the sweep ended before the job started
        return [self._job_return(job, failures.get(job)) for job in jobs]

    def _job(self, overrides: Sequence[str], number: int) -> SweepJob:
        """Return a job; its folder is chosen here, since parallel jobs could choose the same."""
        settings = tuple(o for o in overrides if not key_of(o).startswith("hydra"))
        sweep = Path(str(self.config.hydra.sweep.dir)).absolute()
        folder = sweep / job_dir(str(sweep), number, settings)
        of_sweep = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper")
        hydra = [
            override
            for override in self.config.hydra.overrides.hydra
            if not key_of(override).startswith((*of_sweep, "hydra.sweep.", "hydra.mode"))
        ]
        # resume names the sweep. A job is resumed if its own folder has a checkpoint.
        typed = [o for o in settings if key_of(o) not in ("resume", "resume_from")]
        identity = (f"hydra.run.dir={folder}", f"hydra.job.num={number}")
        flags = config_flags(sys.argv[1:])
        python = (sys.executable, "-m", "korlm.train")
        return SweepJob(number, settings, folder, (*python, *flags, *typed, *hydra, *identity))

    def run_all(self, jobs: Sequence[SweepJob]) -> dict[SweepJob, str]:
        """Run jobs, and return job -> reason of the jobs that failed; "" if it was stopped.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; all jobs have written last.pt and stopped.
        """
        waiting, running = list(jobs), dict[SweepJob, Running]()
        starts: dict[SweepJob, float] = {}
        failures: dict[SweepJob, str] = {}
        try:
            while waiting or running:
                batch = waiting[: self.room(running.values())]
                for job, started in self.start(batch, running.values()):
                    waiting.remove(job)
                    running[job], starts[job] = started, time.monotonic()
                    logger.info("job %s starts%s", job.folder.name, started.name)
                for job, started in list(running.items()):
                    if (code := started.poll()) is None:
                        continue
                    del running[job]
                    if not is_finished(job.folder):
                        failures[job] = _failure(job.folder, started.output, code)
                    count = f"{len(jobs) - len(waiting) - len(running)} of {len(jobs)}"
                    self._log_end(job, count, starts[job], failures.get(job))
                time.sleep(self.poll_seconds)
            return failures
        except KeyboardInterrupt:
            if running:
                logger.info("stopping %d jobs; press Ctrl-C again to kill them", len(running))
            self.stop(list(running.values()))
            for job in running:
                failure = None if is_finished(job.folder) else ""
                self._log_end(job, "interrupted", starts[job], failure)
            raise

    def room(self, running: Collection[Running]) -> int:
        """Return the number of jobs that may be started now."""
        return len(self.shares) - len(running)

    def free_shares(self, running: Collection[Running]) -> list[dict[str, str]]:
        """Return the shares that no running job has."""
        return [s for s in self.shares if not any(s is job.share for job in running)]

    @abstractmethod
    def start(
        self, jobs: Sequence[SweepJob], running: Collection[Running]
    ) -> Iterator[tuple[SweepJob, Running]]:
        """Start jobs, at most ``room``, and yield each one as soon as it has been started."""

    @abstractmethod
    def stop(self, running: Sequence[Running]) -> None:
        """Let jobs write last.pt and stop, and wait for them."""

    @property
    def threads(self) -> int | None:
        """Return the number of threads of each job; None: PyTorch's default."""
        count = self.config.trainer.threads
        return None if count is None else int(count)

    @property
    def may_use_gpus(self) -> bool:
        """Return True if the settings allow jobs to use GPUs."""
        return str(self.config.trainer.device.value) in ("auto", "cuda")

    def _log_end(self, job: SweepJob, count: str, start: float, failure: str | None) -> None:
        """Log the result of a job; ``failure`` None: finished, "": stopped."""
        name, seconds = job.folder.name, time.monotonic() - start
        if failure is None:
            objective = str(self.config.objective)
            value = finished_cost(objective, job.folder)
            value = -value if is_larger_better(objective.partition(".")[2]) else value
            text = "job %s finished (%s) after %.0f s: %s %.4g"
            logger.info(text, name, count, seconds, objective, value)
        elif not failure:
            logger.info("job %s stopped (%s) after %.0f s", name, count, seconds)
        elif is_pruned(failure):
            logger.info("job %s ended (%s) after %.0f s: %s", name, count, seconds, failure)
        else:
            logger.error("job %s failed (%s) after %.0f s: %s", name, count, seconds, failure)

    def _job_return(self, job: SweepJob, failure: str | None) -> JobReturn:
        """Return the result of a job for the sweeper."""
        result = JobReturn(overrides=list(job.overrides), working_dir=str(Path.cwd()))
        try:
            if failure is not None:
                raise SweepError(f"job {job.folder.name}: {failure or 'stopped by a signal'}")
            result.return_value = finished_cost(str(self.config.objective), job.folder)
            result.status = JobStatus.COMPLETED
        except KorlmError as error:
            result.status, result.return_value = JobStatus.FAILED, error
        return result


def _failure(folder: Path, output: Path, code: int) -> str:
    """Return why a job has no result; empty if it was stopped by a signal.

    If the job could not record its reason, this function records it.
    """
    failed = folder / FAILED
    if failed.is_file() and (reason := failed.read_text("utf-8", "replace").strip()):
        return reason
    if code == INTERRUPTED:
        return ""
    with contextlib.suppress(OSError):
        lines = output.read_text("utf-8", "replace").splitlines()
        errors = [line for line in lines if line.startswith("korlm: ")]
        if errors:  # such as that another process works on this job
            return errors[-1].removeprefix("korlm: ")
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    reason = f"its process died ({how}), possibly out of memory; see {output}"
    note_failure(folder, SweepError(reason))
    return reason


@contextlib.contextmanager
def importable_korlm() -> Iterator[None]:
    """Make processes that the block starts import korlm from the same folder as this one."""
    source = str(Path(__file__).resolve().parents[3])
    old_path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (source, old_path)))
    try:
        yield
    finally:
        if old_path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = old_path
