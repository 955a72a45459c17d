"""A job started by submitit: its rank and its time limit.

SLURM's signal before the time limit stops training like Ctrl-C, between two steps and after writing
last.pt. Only then submitit queues the job again (its own handler would interrupt a step). The job
resumes from last.pt, with the numbers of an uninterrupted run.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from submitit import JobEnvironment
from submitit.helpers import DelayedSubmission

from korlm.runs.directories import FAILED
from korlm.sweeps.launchers.job import JobResult, JobSpec, run
from korlm.utils import dist_env
from korlm.utils.signals import signals_as_keyboard_interrupt

FAILURE_FILE_SECONDS = 30.0  # wait of other ranks for failed.txt of rank 0


class Submitted:
    """Callable that submitit runs in each process of a job."""

    def __call__(self, spec: JobSpec) -> JobResult:
        """Run a job; rank 0 returns its result."""
        os.environ.update(spec.environment)
        environment = JobEnvironment()
        limit, at_limit = environment._usr_sig(), list[int]()
        queue_again: Any = signal.getsignal(limit)

        def stop(number: int, frame: object) -> None:
            at_limit.append(number)
            signal.raise_signal(signal.SIGTERM)

        signal.signal(limit, stop)
        try:
            with signals_as_keyboard_interrupt():
                set_distributed_env(environment)
                result = run(spec)
        except KeyboardInterrupt:
            result = JobResult()
        if not dist_env.place().is_main_process:
            _end(0 if not result.failure or _wait_for_failure_file(spec.folder) else 1)
        if result.is_stopped:
            if at_limit:
                try:
                    queue_again(limit, None)
                except SystemExit as end:
                    _end(int(str(end.code)) & 0xFF)
            _end(130)  # no result: after a preemption the cluster queues it again
        return result

    def checkpoint(self, spec: JobSpec) -> DelayedSubmission:
        """Return the submission after the time limit: the same job, which resumes from last.pt."""
        return DelayedSubmission(self, spec)


def _wait_for_failure_file(job: Path) -> bool:
    """Wait until rank 0 has recorded a failure, which usually occurs in all ranks.

    A rank that fails alone must exit with an error, since the others wait for it.
    """
    until = time.monotonic() + FAILURE_FILE_SECONDS
    while not (recorded := (job / FAILED).is_file()) and time.monotonic() < until:
        time.sleep(0.1)
    return recorded


def set_distributed_env(environment: JobEnvironment) -> None:
    """Set the environment variables of torchrun if the job has several processes.

    Args:
        environment: submitit's description of the job.
    """
    if environment.num_tasks == 1:
        return
    single_node = environment.num_nodes == 1
    # All ranks must choose the same port without communicating, below the ephemeral ports.
    port = random.Random(environment.job_id).randint(20000, 30000)
    os.environ.update(
        TORCHELASTIC_RUN_ID=f"submitit-{environment.job_id}",
        MASTER_ADDR="127.0.0.1" if single_node else environment.hostnames[0],
        MASTER_PORT=str(port),
        RANK=str(environment.global_rank),
        WORLD_SIZE=str(environment.num_tasks),
        LOCAL_RANK=str(environment.local_rank),
        LOCAL_WORLD_SIZE=str(environment.num_tasks // environment.num_nodes),
    )


def _end(code: int) -> NoReturn:
    """Exit without Python's cleanup, in which threads of PyTorch may crash."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
