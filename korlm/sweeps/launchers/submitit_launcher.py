"""hydra/launcher=submitit_slurm and submitit_local: jobs on a SLURM cluster or on this machine.

submitit pickles each job into its folder, where the job's processes read it. The sweep waits for
its jobs; if it is killed, they continue, and a later command collects their results.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from korlm.config import LocalConfig, SlurmConfig, SubmititConfig
from korlm.sweeps.launchers.base import KorlmLauncher, ProgressLogger, record_crash
from korlm.sweeps.launchers.job import JobResult, JobSpec
from korlm.sweeps.launchers.resources import VISIBLE, environments, visible_gpus
from korlm.utils.cpu import available_cores
from korlm.utils.errors import ConfigError, require_extra

logger = logging.getLogger(__name__)


ARRAY_SIZE = 1000  # jobs per array; SLURM's default limit is 1001


class SubmititLauncher(KorlmLauncher):
    """Base class: submits jobs and polls for their results."""

    settings: SubmititConfig
    poll_seconds: float

    def run_all(self, specs: Sequence[JobSpec], progress: ProgressLogger) -> dict[int, JobResult]:
        """Submit jobs and wait for them."""
        results: dict[int, JobResult] = {}
        waiting, running = list(specs), dict[int, tuple[Any, JobSpec]]()
        try:
            with importable_korlm():
                while waiting or running:
                    count = self.room(len(running))
                    for spec, job in self.submit(waiting[:count], set(running)):
                        running[spec.number] = (job, spec)
                        progress.start(spec, f" as job {job.job_id} of the queue")
                    del waiting[:count]
                    for number, (job, spec) in list(running.items()):
                        if job.task(0).done():
                            results[number] = progress.end(spec, _result(job, spec))
                            del running[number]
                    time.sleep(self.poll_seconds)
            return results
        except KeyboardInterrupt:
            logger.info("stopping %d jobs; each writes last.pt", len(running))
            self.cancel([job for job, _ in running.values()])
            raise

    @abstractmethod
    def room(self, num_running: int) -> int:
        """Return the number of jobs that may be submitted now."""

    @abstractmethod
    def submit(self, specs: Sequence[JobSpec], running: set[int]) -> Iterator[tuple[JobSpec, Any]]:
        """Submit jobs, at most ``room``; yield each with its submitit job."""

    @abstractmethod
    def cancel(self, jobs: Sequence[Any]) -> None:
        """Stop jobs."""

    @property
    def num_tasks(self) -> int:
        """Return the number of processes per job."""
        return self.settings.tasks_per_node * self.settings.nodes


class LocalLauncher(SubmititLauncher):
    """Runs jobs on this machine; see korlm.config.LocalConfig."""

    poll_seconds = 0.2

    def __init__(self, **settings: Any) -> None:
        self.settings = LocalConfig(**settings)
        with require_extra("submitit"):
            import submitit  # noqa: F401 - fail before anything is written

    def run_all(self, specs: Sequence[JobSpec], progress: ProgressLogger) -> dict[int, JobResult]:
        """Submit each job as soon as resources are free."""
        self.free = self._shares(len(specs))
        self.used: dict[int, dict[str, str]] = {}
        return super().run_all(specs, progress)

    def _shares(self, num_jobs: int) -> list[dict[str, str]]:
        """Return the environment variables of each parallel job."""
        settings, cores = self.settings, available_cores()
        gpus = visible_gpus() if self.may_use_gpus and settings.gpus_per_node != 0 else []
        each = settings.gpus_per_node or settings.tasks_per_node
        if each > len(gpus) and (gpus or settings.gpus_per_node):
            raise ConfigError(
                f"hydra.launcher: {each} GPUs for each job, but {len(gpus)} are available "
                "here: lower gpus_per_node or tasks_per_node, or use trainer.device=cpu"
            )
        cpus = (settings.cpus_per_task or 1) * settings.tasks_per_node
        default = len(gpus) // each if gpus else max(1, cores // cpus)
        count = settings.array_parallelism or default
        of_task = cores // settings.tasks_per_node  # all processes of a job share its environment
        shares = environments(count, of_task, self.threads, gpus, each)[:num_jobs]
        logger.info("%d parallel jobs; output in %s", len(shares), self._folder())
        return [{VISIBLE: "", **share} for share in shares]

    def _folder(self) -> str:
        return str(Path(self.settings.folder).parent)

    def room(self, num_running: int) -> int:
        """Return the number of free shares of the machine."""
        return len(self.free) + len(self.used) - num_running

    def submit(self, specs: Sequence[JobSpec], running: set[int]) -> Iterator[tuple[JobSpec, Any]]:
        """Start jobs, each with a supervising process of submitit."""
        from submitit import LocalExecutor

        from korlm.sweeps.launchers.submitit_job import Submitted

        for number in set(self.used) - running:
            self.free.append(self.used.pop(number))
        settings = self.settings
        executor = LocalExecutor(settings.folder, max_num_timeout=settings.max_num_timeout)
        executor.update_parameters(
            timeout_min=settings.timeout_min,
            signal_delay_s=settings.signal_delay_s,
            tasks_per_node=settings.tasks_per_node,
        )
        for spec in specs:
            share = self.used[spec.number] = self.free.pop()
            with _ignore_sigint():
                job = executor.submit(Submitted(), replace(spec, environment=share))
            yield spec, job

    def cancel(self, jobs: Sequence[Any]) -> None:
        """Send SIGTERM to the jobs and wait until they have ended."""
        for job in jobs:
            with contextlib.suppress(OSError):
                os.kill(int(job.job_id), signal.SIGTERM)
        while not all(job.done() for job in jobs):
            time.sleep(self.poll_seconds)


class SlurmLauncher(SubmititLauncher):
    """An array of SLURM jobs; see korlm.config.SlurmConfig."""

    settings: SlurmConfig
    poll_seconds = 5.0

    def __init__(self, **settings: Any) -> None:
        self.settings = SlurmConfig(**settings)
        with require_extra("submitit"):
            import submitit  # noqa: F401 - fail before anything is written
        if not (shutil.which("sbatch") and shutil.which("srun")):
            raise ConfigError(
                "hydra/launcher=submitit_slurm: no sbatch and srun found: start it on a "
                "machine of the cluster, or use hydra/launcher=submitit_local or joblib"
            )

    def room(self, num_running: int) -> int:
        """Return the size of an array if none is running: SLURM limits it."""
        return 0 if num_running else ARRAY_SIZE

    def submit(self, specs: Sequence[JobSpec], running: set[int]) -> Iterator[tuple[JobSpec, Any]]:
        """Submit an array."""
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError

        from korlm.sweeps.launchers.submitit_job import Submitted

        if not specs:
            return
        settings = self.settings
        executor = AutoExecutor(
            settings.folder, cluster="slurm", slurm_max_num_timeout=settings.max_num_timeout
        )
        executor.update_parameters(**_sbatch_parameters(settings))
        try:
            jobs = executor.map_array(Submitted(), specs)
        except FailedJobError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"hydra/launcher=submitit_slurm: sbatch failed: {reason}") from error
        yield from zip(specs, jobs, strict=True)

    def cancel(self, jobs: Sequence[Any]) -> None:
        """Call scancel for each array: SLURM sends SIGTERM, and SIGKILL half a minute later."""
        if jobs:
            arrays = sorted({str(job.job_id).partition("_")[0] for job in jobs})
            subprocess.run(["scancel", *arrays], check=False)


def _sbatch_parameters(settings: SlurmConfig) -> dict[str, Any]:
    """Return the parameters under submitit's names; null means the cluster's default."""
    shared = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node")
    own = ("signal_delay_s", "array_parallelism", "partition", "account", "qos", "constraint")
    return {
        **{key: getattr(settings, key) for key in (*shared, "tasks_per_node")},
        **{f"slurm_{key}": getattr(settings, key) for key in own},
        "slurm_setup": settings.setup or None,
        # Some clusters otherwise refuse to requeue a job that reached its time limit.
        "slurm_additional_parameters": {"requeue": True, **settings.additional_parameters},
        "stderr_to_stdout": True,
    }


def _result(job: Any, spec: JobSpec) -> JobResult:
    """Return the result of a finished job, which its rank 0 returned."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    first = job.task(0)
    first._results_timeout_s = 2
    try:
        result: JobResult = first.result()
        return result
    except UncompletedJobError:
        reason = f"its processes ended without a result, state {first.state}"
    except FailedJobError as error:
        lines = [line for line in str(error).splitlines() if "Error: " in line]
        reason = " ".join(lines[-1:]) or "its processes failed"
    return record_crash(spec, f"{reason}; see {first.paths.stdout}")


@contextlib.contextmanager
def importable_korlm() -> Iterator[None]:
    """Let the processes of jobs import korlm from the same folder as this one."""
    source = str(Path(__file__).resolve().parents[3])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (source, before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def _ignore_sigint() -> Iterator[None]:
    """Ignore SIGINT in processes started within the block; submitit would kill their jobs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
