"""Dask workers in SLURM jobs; jobs that end too early are submitted again."""

from __future__ import annotations

import getpass
import logging
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from distributed import Status

from korlm import _version
from korlm.config import ClusterConfig
from korlm.config.commands.prepare import SLURM
from korlm.utils.errors import ClusterError, require_extra
from korlm.utils.signals import preserve_sigint_handler

logger = logging.getLogger(__name__)

ASK_SECONDS = 30.0  # between two requests for missing workers
ANSWER_SECONDS = 30  # timeout of squeue
MAX_INITIAL_FAILURES = 4  # jobs that end before any worker has started


class Jobs:
    """SLURM jobs of the workers.

    Dask replaces a worker that it has lost. It does not notice a job that ended before its worker
    connected, because SLURM killed it or the scheduler could not be reached, and would wait for it
    forever.

    Args:
        config: settings of the cluster.
        threads: of a worker.
        memory: of a worker, in MB.
        logs: folder of the output of the jobs.

    Raises:
        ClusterError: there is no SLURM on this machine.
        MissingPackageError: dask-jobqueue is not installed.
    """

    def __init__(self, config: ClusterConfig, threads: int, memory: int, logs: Path) -> None:
        with require_extra("distributed", "dask-jobqueue"), preserve_sigint_handler():
            from dask_jobqueue import SLURMCluster
        if shutil.which("sbatch") is None:
            raise ClusterError(
                "prepare.cluster=slurm: there is no sbatch on this machine; run the command on one "
                "from which SLURM jobs are submitted"
            )
        self._num_workers = config.workers or 1
        self._logs = logs
        self._requested: float | None = None  # time of the last request
        self._connected: set[str] = set()  # names of all workers that ever connected
        self._num_failed = 0  # jobs that ended before their worker connected
        source = str(Path(_version.__file__).resolve().parent.parent)
        self.cluster: Any = SLURMCluster(
            cores=threads,
            processes=1,
            memory=f"{memory} MiB",
            queue=config.queue,
            account=config.account,
            walltime=config.walltime,
            interface=config.interface,
            job_extra_directives=list(config.sbatch),
            job_script_prologue=[f"export PYTHONPATH={shlex.quote(source)}:$PYTHONPATH"],
            log_directory=str(logs),
            python=sys.executable,
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
        )

    def request_workers(self) -> None:
        """Submit jobs for missing workers, at most every ``ASK_SECONDS``.

        Raises:
            ClusterError: SLURM rejects the jobs, or they end before their workers start.
        """
        is_first = self._requested is None
        if (self._requested or -ASK_SECONDS) > time.monotonic() - ASK_SECONDS:
            return
        self._requested = time.monotonic()
        queued = None if is_first else _queued_jobs()
        try:
            for job in self.cluster.sync(self._submit_missing, queued):
                self._report_failure(job)
        except RuntimeError as error:  # its message holds the output of sbatch
            output = str(error).partition("stderr:")[2] or str(error)
            message = " ".join(output.replace("sbatch: error: ", "").split())
            if is_first:
                raise ClusterError(f"prepare.cluster={SLURM}: sbatch: {message}") from error
            logger.warning("sbatch: %s", message)

    async def _submit_missing(self, queued: set[str] | None) -> list[str]:
        """Do what ``scale`` does, but raise its errors, and resubmit jobs that ended.

        Args:
            queued: the jobs that SLURM lists; None: unknown.

        Returns:
            Ids of the jobs that ended before their worker connected.
        """
        cluster = self.cluster
        self._connected |= {worker["name"] for worker in cluster.scheduler_info["workers"].values()}
        ended = []
        for name, job in list(cluster.workers.items()):
            is_refused = job.job_id is None
            if not is_refused:
                if queued is None or name in self._connected or job.job_id in queued:
                    continue
                ended.append(job.job_id)
            # When Dask closes, it waits for jobs that are neither closed nor failed.
            cluster.workers.pop(name).status = Status.failed
        while len(cluster.worker_spec) < self._num_workers:
            cluster.worker_spec.update(cluster.new_worker_spec())
        try:
            await cluster._correct_state()
        except RuntimeError:
            for job in cluster._created:  # Dask would wait for rejected jobs when it closes
                if job.status is Status.created:
                    job.status = Status.failed
            raise
        return ended

    def _report_failure(self, job: str) -> None:
        """Log a job that ended too early; raise ClusterError if all jobs do."""
        self._num_failed += 1
        message = f"SLURM job {job} ended before its worker started{_last_line(self._logs, job)}"
        if self._num_failed >= MAX_INITIAL_FAILURES and not self._connected:
            raise ClusterError(
                f"prepare.cluster={SLURM}: {message}; so did {self._num_failed - 1} others, and no "
                f"worker has started; their output is in {self._logs}"
            )
        logger.warning("%s; submitting a replacement", message)


def _queued_jobs() -> set[str] | None:
    """Return the ids of the user's waiting and running jobs; None if squeue fails."""
    command = ["squeue", "--noheader", "--format=%A", f"--user={getpass.getuser()}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return set(done.stdout.split())


def _last_line(logs: Path, job: str) -> str:
    """Return the last line of a job's output, as the end of a message."""
    for path in sorted(logs.glob(f"*-{job}.*")):  # .err comes before .out
        lines = path.read_text("utf-8", errors="replace").split("\n")
        if last := next((line.strip() for line in reversed(lines) if line.strip()), ""):
            return f": {path.name}: {last}"
    return ""
