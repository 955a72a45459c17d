"""A job that submitit has started: its place among its processes, its time limit.

SLURM's signal before the limit ends training as Ctrl-C does, between two steps and with last.pt
written; only then submitit is told, which queues the job again. Its own way would be to do so in
the midst of a step. The job then goes on from last.pt, with the numbers of an unbroken run.
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

TELLING_SECONDS = 30.0


class Submitted:
    """What submitit calls in each process of a job."""

    def __call__(self, order: JobSpec) -> JobResult:
        """Does a job; its first process gives the outcome."""
        os.environ.update(order.environment)
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
                outcome = run(order)
        except KeyboardInterrupt:
            outcome = JobResult()
        place = dist_env.place()
        if not place.is_main_process:
            _end(0 if not outcome.failure or _wait_for_failure_file(order.folder) else 1)
        if outcome.is_stopped:
            if at_limit:
                try:
                    queue_again(limit, None)
                except SystemExit as end:
                    _end(int(str(end.code)) & 0xFF)
            _end(130)  # without a result: a cluster that takes the machine away queues it again
        return outcome

    def checkpoint(self, order: JobSpec) -> DelayedSubmission:
        """What submitit is to do after the time limit: the same, which finds last.pt."""
        return DelayedSubmission(self, order)


def _wait_for_failure_file(job: Path) -> bool:
    """Waits for the first process to tell of a mistake, which all of them make as a rule.

    A process that fails alone must end by its own word: the others wait for it.
    """
    until = time.monotonic() + TELLING_SECONDS
    while not (told := (job / FAILED).is_file()) and time.monotonic() < until:
        time.sleep(0.1)
    return told


def set_distributed_env(environment: JobEnvironment) -> None:
    """Tells korlm.utils.dist_env of this process's place if the job has several, as torchrun would.

    Args:
        environment: submitit's word of it.
    """
    if environment.num_tasks == 1:
        return
    alone = environment.num_nodes == 1
    # All must come to the same port without talking; below those that systems give away.
    port = random.Random(environment.job_id).randint(20000, 30000)
    os.environ.update(
        TORCHELASTIC_RUN_ID=f"submitit-{environment.job_id}",
        MASTER_ADDR="127.0.0.1" if alone else environment.hostnames[0],
        MASTER_PORT=str(port),
        RANK=str(environment.global_rank),
        WORLD_SIZE=str(environment.num_tasks),
        LOCAL_RANK=str(environment.local_rank),
        LOCAL_WORLD_SIZE=str(environment.num_tasks // environment.num_nodes),
    )


def _end(code: int) -> NoReturn:
    """Ends the process without Python's own end, which PyTorch's threads may turn into a crash."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
