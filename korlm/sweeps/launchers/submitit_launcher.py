"""Run jobs on a SLURM cluster or on this machine (hydra/launcher=submitit_slurm, ..._local).

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
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from korlm.config import LocalConfig, SlurmConfig
from korlm.sweeps.launchers.base import KorlmLauncher, RunningJob, SweepJob
from korlm.sweeps.launchers.resources import VISIBLE, environments, visible_gpus
from korlm.utils.errors import ConfigError
from korlm.utils.machine import available_cores

logger = logging.getLogger(__name__)

ARRAY_SIZE = 1000  # largest number of jobs of an array; SLURM's default limit is 1001
QUEUE_SECONDS = 60  # until SLURM is asked again, at most, which jobs have ended


class SubmittedJob(RunningJob):
    """A job that was submitted."""

    def __init__(self, job: Any, share: dict[str, str], watcher: Any = None) -> None:
        self.job, self.share = job, share
        self.name = f" as job {job.job_id} of the queue"
        first = job.task(0)
        first._results_timeout_s = 2
        if watcher is not None:
            first.watcher = watcher  # instead of sacct
            watcher.register_job(first.job_id)  # before the first poll, which then asks for all
        self.output = Path(first.paths.stdout)

    def poll(self) -> int | None:
        """Return the exit code of rank 0, or 1 if it failed without one; None while it runs."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        first = self.job.task(0)
        try:
            return int(first.result()) if first.done() else None
        except (FailedJobError, UncompletedJobError):
            return 1


class LocalLauncher(KorlmLauncher[SubmittedJob]):
    """Runs jobs on this machine; see korlm.config.LocalConfig."""

    def __init__(self, **settings: Any) -> None:
        self.settings = LocalConfig(**settings)

    def run_all(self, jobs: Sequence[SweepJob]) -> dict[SweepJob, str]:
        """Submit each job as soon as resources are free."""
        self.shares = self._shares(len(jobs))
        return super().run_all(jobs)

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
        # All processes of a job have the same environment, so the cores are those of one process.
        cores_each = cores // settings.tasks_per_node
        shares = environments(count, cores_each, self.threads, gpus, each)[:num_jobs]
        folder = Path(settings.folder).parent
        logger.info("%d parallel jobs; output in %s", len(shares), folder)
        return [{VISIBLE: "", **share} for share in shares]

    def start(
        self, jobs: Sequence[SweepJob], running: Collection[SubmittedJob]
    ) -> Iterator[tuple[SweepJob, SubmittedJob]]:
        """Start jobs, each with a supervising process of submitit."""
        from submitit import LocalExecutor

        from korlm.sweeps.launchers.submitit_job import JobCommand

        settings = self.settings
        executor = LocalExecutor(settings.folder, max_num_timeout=settings.max_num_timeout)
        executor.update_parameters(
            timeout_min=settings.timeout_min,
            signal_delay_s=settings.signal_delay_s,
            tasks_per_node=settings.tasks_per_node,
            stderr_to_stdout=True,  # the reason of a failure is read from the output
        )
        for job, share in zip(jobs, self.free_shares(running), strict=False):
            with _ignore_sigint():
                submitted = executor.submit(JobCommand(job.command, job.folder, share))
            yield job, SubmittedJob(submitted, share)

    def stop(self, running: Sequence[SubmittedJob]) -> None:
        """Send SIGTERM to the jobs and wait until they have ended."""
        jobs = [submitted.job for submitted in running]
        for job in jobs:
            with contextlib.suppress(OSError):
                os.kill(int(job.job_id), signal.SIGTERM)
        while not all(job.done() for job in jobs):
            time.sleep(self.poll_seconds)


class SlurmLauncher(KorlmLauncher[SubmittedJob]):
    """Runs jobs as arrays of SLURM jobs; see korlm.config.SlurmConfig."""

    settings: SlurmConfig
    poll_seconds = 5.0

    def __init__(self, **settings: Any) -> None:
        self.settings = SlurmConfig(**settings)
        if not (shutil.which("sbatch") and shutil.which("srun")):
            raise ConfigError(
                "hydra/launcher=submitit_slurm: no sbatch and srun found: start it on a "
                "machine of the cluster, or use hydra/launcher=submitit_local or parallel"
            )

    def room(self, running: Collection[SubmittedJob]) -> int:
        """Return the size of an array, whose limit SLURM sets; 0 while an array is running."""
        return 0 if running else ARRAY_SIZE

    def start(
        self, jobs: Sequence[SweepJob], running: Collection[SubmittedJob]
    ) -> Iterator[tuple[SweepJob, SubmittedJob]]:
        """Submit an array."""
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError

        from korlm.sweeps.launchers.submitit_job import JobCommand, QueueWatcher

        if not jobs:
            return
        settings = self.settings
        executor = AutoExecutor(
            settings.folder, cluster="slurm", slurm_max_num_timeout=settings.max_num_timeout
        )
        executor.update_parameters(**_sbatch_parameters(settings))
        try:
            commands = [JobCommand(job.command, job.folder, {}) for job in jobs]
            submitted = executor.submit_array(commands)
        except FailedJobError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"hydra/launcher=submitit_slurm: sbatch failed: {reason}") from error
        watcher = QueueWatcher(delay_s=QUEUE_SECONDS)
        yield from zip(jobs, (SubmittedJob(one, {}, watcher) for one in submitted), strict=True)

    def stop(self, running: Sequence[SubmittedJob]) -> None:
        """Call scancel for each array: SLURM sends SIGTERM, and SIGKILL half a minute later."""
        if running:
            arrays = sorted({str(one.job.job_id).partition("_")[0] for one in running})
            subprocess.run(["scancel", *arrays], check=False)


def _sbatch_parameters(settings: SlurmConfig) -> dict[str, Any]:
    """Return the parameters under submitit's names; None is the cluster's default."""
    common = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node")
    of_slurm = ("signal_delay_s", "array_parallelism", "partition", "account", "qos", "constraint")
    return {
        **{key: getattr(settings, key) for key in (*common, "tasks_per_node")},
        **{f"slurm_{key}": getattr(settings, key) for key in of_slurm},
        "slurm_setup": settings.setup or None,
        # Some clusters otherwise refuse to requeue a job that reached its time limit.
        "slurm_additional_parameters": {"requeue": True, **settings.additional_parameters},
        "stderr_to_stdout": True,
    }


@contextlib.contextmanager
def _ignore_sigint() -> Iterator[None]:
    """Ignore SIGINT in processes started within the block; submitit would kill their jobs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
