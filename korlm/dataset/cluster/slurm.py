"""Workers of Dask as jobs of SLURM: asked for, and asked for again where they ended too soon."""

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


ASK_SECONDS = 30.0  # between two askings for the workers that are missing


ANSWER_SECONDS = 30  # that squeue has


MAX_INITIAL_FAILURES = 4  # jobs that end before any worker was there


class Jobs:
    """The jobs of SLURM in which workers run.

    Dask asks anew for a worker that it lost. Of a job that ended before its worker was there, such
    as one that SLURM killed or that could not reach the scheduler, it knows nothing and would wait
    for ever.

    Args:
        config: how many, and what SLURM is to be told of them.
        threads: of a worker.
        memory: of a worker, in MB.
        logs: folder for what the jobs write.

    Raises:
        ClusterError: SLURM is not here.
        MissingPackageError: dask-jobqueue is not installed.
    """

    def __init__(self, config: ClusterConfig, threads: int, memory: int, logs: Path) -> None:
        with require_extra("distributed", "dask-jobqueue"), preserve_sigint_handler():
            from dask_jobqueue import SLURMCluster
        if shutil.which("sbatch") is None:
            raise ClusterError(
                "prepare.cluster=slurm: there is no sbatch on this machine; give the command on "
                "one from which jobs are sent to SLURM"
            )
        self._wanted = config.workers or 1
        self._logs = logs
        self._asked: float | None = None
        self._there: set[str] = set()  # names of workers that were ever there
        self._num_ended = 0  # jobs without one
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

    def ask(self) -> None:
        """Asks SLURM for the workers that are missing, now and then.

        Raises:
            ClusterError: SLURM takes none of them, or they end before they begin to work.
        """
        is_first = self._asked is None
        if (self._asked or -ASK_SECONDS) > time.monotonic() - ASK_SECONDS:
            return
        self._asked = time.monotonic()
        known = None if is_first else _known()
        try:
            for job in self.cluster.sync(self._fill, known):
                self._tell(job)
        except RuntimeError as error:  # with all that sbatch said
            said = str(error).partition("stderr:")[2] or str(error)
            told = " ".join(said.replace("sbatch: error: ", "").split())
            if is_first:
                raise ClusterError(f"prepare.cluster={SLURM}: sbatch says: {told}") from error
            logger.warning("sbatch says: %s", told)

    async def _fill(self, known: set[str] | None) -> list[str]:
        """What ``scale`` does, but its failures come to light; jobs that ended are sent anew.

        Args:
            known: the jobs that SLURM knows of, if it says so.

        Returns:
            Jobs that ended before their worker was there.
        """
        cluster = self.cluster
        self._there |= {worker["name"] for worker in cluster.scheduler_info["workers"].values()}
        ended = []
        for name, job in list(cluster.workers.items()):
            is_refused = job.job_id is None
            if not is_refused:
                if known is None or name in self._there or job.job_id in known:
                    continue
                ended.append(job.job_id)
            # Dask's own end waits for what is neither closed nor failed.
            cluster.workers.pop(name).status = Status.failed
        while len(cluster.worker_spec) < self._wanted:
            cluster.worker_spec.update(cluster.new_worker_spec())
        try:
            await cluster._correct_state()
        except RuntimeError:
            for job in cluster._created:  # else Dask, when it ends, waits for refused ones
                if job.status is Status.created:
                    job.status = Status.failed
            raise
        return ended

    def _tell(self, job: str) -> None:
        """Gives up where the next job would end alike."""
        self._num_ended += 1
        told = f"job {job} of SLURM ended before its worker was there{_last_words(self._logs, job)}"
        if self._num_ended >= MAX_INITIAL_FAILURES and not self._there:
            raise ClusterError(
                f"prepare.cluster={SLURM}: {told}; so did {self._num_ended - 1} others, and no "
                f"worker was ever there; what they wrote is in {self._logs}"
            )
        logger.warning("%s; another one is asked for", told)


def _known() -> set[str] | None:
    """The jobs of this user that wait or run, by their numbers; None: SLURM does not say."""
    command = ["squeue", "--noheader", "--format=%A", f"--user={getpass.getuser()}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return set(done.stdout.split())


def _last_words(logs: Path, job: str) -> str:
    """The last line that a job wrote, to be put behind what is told of it."""
    for path in sorted(logs.glob(f"*-{job}.*")):  # .err comes before .out
        lines = path.read_text("utf-8", errors="replace").split("\n")
        if said := next((line.strip() for line in reversed(lines) if line.strip()), ""):
            return f": {path.name}: {said}"
    return ""
