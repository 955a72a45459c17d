"""Run a job that submitit has started: its rank, and the signal to stop; ask whether it has ended.

SLURM's signal before the time limit or a preemption stops training like Ctrl-C, between two steps
and after writing last.pt. After that, submitit queues the job again (its own handler would
interrupt a step). The job resumes from last.pt, with the numbers of an uninterrupted run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit import JobEnvironment
from submitit.core.utils import UncompletedJobError
from submitit.helpers import DelayedSubmission
from submitit.slurm.slurm import SlurmInfoWatcher

from korlm.runs.directories import FAILED
from korlm.sweeps.launchers.base import INTERRUPTED
from korlm.sweeps.results import note_failure
from korlm.utils.slurm import QUEUE_COMMAND

FAILURE_FILE_SECONDS = 30.0  # how long other ranks wait for failed.txt of rank 0


class QueueWatcher(SlurmInfoWatcher):  # type: ignore[misc]
    """Asks SLURM which jobs have ended: those that the queue no longer lists."""

    def _make_command(self) -> list[str]:
        return list(QUEUE_COMMAND)

    def read_info(self, string: str | bytes) -> dict[str, dict[str, str]]:
        """Return the state of each job from the output of the command."""
        listed = set((string if isinstance(string, str) else string.decode()).split())
        ids = self._registered
        return {name: {"State": "RUNNING" if name in listed else "ENDED"} for name in ids}


@dataclass(frozen=True)
class JobCommand:
    """Runs a command, with further environment variables, in each process of a submitit job."""

    command: tuple[str, ...]
    folder: Path
    environment: dict[str, str]

    def __call__(self) -> int:
        """Run the command, and return its exit code.

        Raises:
            SystemExit: the command was stopped, or this is not rank 0.
        """
        job = JobEnvironment()
        # A job that SLURM has queued again (a node failed) may find the file of its first run.
        old_failure = _failure_time(self.folder) if "SLURM_RESTART_COUNT" in os.environ else None
        stop_signal, received = job._usr_sig(), list[int]()
        requeue: Any = signal.getsignal(stop_signal)  # submitit's handler
        # SLURM signals all processes; the child inherits this and does not die of the signal.
        signal.signal(stop_signal, signal.SIG_IGN)
        environment = {**os.environ, **self.environment, **distributed_env(job)}
        environment.pop("HYDRA_FULL_ERROR", None)
        child = subprocess.Popen(self.command, env=environment)

        def stop(number: int, frame: object) -> None:
            received.append(number)
            child.terminate()

        signal.signal(stop_signal, stop)
        signal.signal(signal.SIGTERM, stop)
        code = self._wait(child, job.global_rank, old_failure)
        # Before the command could catch the signal. If Python was within exec (of an import),
        # the command handles it, but Python then ends itself by SIGINT.
        if received and code in (-signal.SIGTERM, -signal.SIGINT):
            code = INTERRUPTED
        if job.global_rank > 0:
            is_fine = code in (0, INTERRUPTED)
            sys.exit(0 if is_fine or _wait_for_failure_file(self.folder, old_failure) else 1)
        if code == INTERRUPTED:
            if stop_signal in received:
                try:
                    requeue(stop_signal, None)  # exits the process
                except (UncompletedJobError, OSError, subprocess.SubprocessError) as error:
                    note_failure(self.folder, error)
            # Submitit stores no result of a process that exits: after a preemption, the cluster
            # queues the job again.
            sys.exit(code)
        return code

    def _wait(self, child: subprocess.Popen[bytes], rank: int, old_failure: int | None) -> int:
        """Return the exit code of the command; a failure of rank 0 ends the other ranks."""
        while True:
            try:
                return child.wait(timeout=1)
            except subprocess.TimeoutExpired:
                if rank > 0 and _failure_time(self.folder) not in (None, old_failure):
                    child.kill()  # it may be waiting for a connection to rank 0

    def checkpoint(self) -> DelayedSubmission:
        """Return what to submit after the time limit: the same job, which resumes from last.pt."""
        return DelayedSubmission(self)


def _failure_time(job: Path) -> int | None:
    """Return when a failure was recorded in the folder of a job, in ns; None: there is none."""
    with contextlib.suppress(OSError):
        return (job / FAILED).stat().st_mtime_ns
    return None


def _wait_for_failure_file(job: Path, old_failure: int | None) -> bool:
    """Wait until rank 0 has recorded a failure; return False if it records none in time.

    Usually all ranks fail. A rank that fails alone must exit with an error, since the others wait
    for it.
    """
    until = time.monotonic() + FAILURE_FILE_SECONDS
    while (recorded := _failure_time(job)) in (None, old_failure) and time.monotonic() < until:
        time.sleep(0.1)
    return recorded not in (None, old_failure)


def distributed_env(environment: JobEnvironment) -> dict[str, str]:
    """Return the environment variables of torchrun; none if the job has a single process."""
    if environment.num_tasks == 1:
        return {}
    single_node = environment.num_nodes == 1
    # All ranks must choose the same port without communicating, below the ephemeral ports.
    port = random.Random(environment.job_id).randint(20000, 30000)
    return {
        "TORCHELASTIC_RUN_ID": f"submitit-{environment.job_id}",
        "MASTER_ADDR": "127.0.0.1" if single_node else environment.hostnames[0],
        "MASTER_PORT": str(port),
        "RANK": str(environment.global_rank),
        "WORLD_SIZE": str(environment.num_tasks),
        "LOCAL_RANK": str(environment.local_rank),
        "LOCAL_WORLD_SIZE": str(environment.num_tasks // environment.num_nodes),
    }
