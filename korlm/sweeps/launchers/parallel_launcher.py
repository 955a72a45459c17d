"""Run jobs in parallel on this machine, each with its share of it (hydra/launcher=parallel)."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from korlm.config import ParallelConfig
from korlm.sweeps.launchers.base import KorlmLauncher, RunningJob, SweepJob
from korlm.sweeps.launchers.resources import (
    VISIBLE,
    environments,
    jobs_at_a_time,
    visible_gpus,
)
from korlm.utils.machine import available_cores

logger = logging.getLogger(__name__)

OUTPUT = ".output"  # name of the folder, in that of the sweep, with the output of the jobs


class JobProcess(RunningJob):
    """A job in a process of this machine."""

    def __init__(self, job: SweepJob, share: dict[str, str]) -> None:
        self.share = share
        self.output = job.folder.parent / OUTPUT / f"{job.folder.name}.log"
        self.output.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **share}
        environment.pop("HYDRA_FULL_ERROR", None)  # set by this command for itself
        with self.output.open("a") as output:
            self.process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C of the terminal must not reach it; see ``stop``
            )

    def poll(self) -> int | None:
        """Return the exit code of the job; None while it runs."""
        return self.process.poll()


class ParallelLauncher(KorlmLauncher[JobProcess]):
    """Runs jobs in parallel; see korlm.config.ParallelConfig."""

    def __init__(self, **settings: Any) -> None:
        self.settings = ParallelConfig(**settings)

    def run_all(self, jobs: Sequence[SweepJob]) -> dict[SweepJob, str]:
        """Run jobs, each as soon as there is room for it."""
        self.shares = self._shares(len(jobs))
        first = self.shares[0]
        gpus = {share.get(VISIBLE) for share in self.shares} - {None}
        logger.info(
            "%d parallel jobs with %s threads each%s; output in %s",
            len(self.shares),
            self.threads or first["OMP_NUM_THREADS"],
            f", GPUs: {len(gpus)}" if gpus else "",
            jobs[0].folder.parent / OUTPUT,
        )
        return super().run_all(jobs)

    def _shares(self, num_jobs: int) -> list[dict[str, str]]:
        """Return the environment variables of each parallel job."""
        cores = available_cores()
        gpus = visible_gpus() if self.may_use_gpus else []
        default = jobs_at_a_time(num_jobs, cores, self.threads, len(gpus))
        return environments(self.settings.n_jobs or default, cores, self.threads, gpus)[:num_jobs]

    def start(
        self, jobs: Sequence[SweepJob], running: Collection[JobProcess]
    ) -> Iterator[tuple[SweepJob, JobProcess]]:
        """Start each job with a share that no other job has."""
        for job, share in zip(jobs, self.free_shares(running), strict=False):
            yield job, JobProcess(job, share)

    def stop(self, running: Sequence[JobProcess]) -> None:
        """Send SIGTERM and wait; a second Ctrl-C kills the processes."""
        processes = [job.process for job in running]
        for process in processes:
            process.terminate()
        try:
            for process in processes:
                process.wait()
        finally:
            for process in processes:
                process.kill()
