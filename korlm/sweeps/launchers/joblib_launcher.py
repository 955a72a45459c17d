"""hydra/launcher=joblib: several jobs at a time on this machine, by joblib's loky.

One pool of one process for each place, not one pool for all: loky gives up a pool, and kills what
runs in it, when one of its processes dies. A process does one job after the other, since importing
PyTorch takes seconds; the environment that it was started with tells its share of the machine.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from pathlib import Path
from typing import Any

from korlm.config import JoblibConfig
from korlm.sweeps.launchers.base import KorlmLauncher, ProgressLogger, record_crash
from korlm.sweeps.launchers.job import JobResult, JobSpec, format_exception, run
from korlm.sweeps.launchers.resources import VISIBLE, environments, jobs_at_a_time, visible_gpus
from korlm.utils.cpu import available_cores
from korlm.utils.errors import require_extra
from korlm.utils.signals import signals_as_keyboard_interrupt

logger = logging.getLogger(__name__)


OUTPUT = ".joblib"  # in the sweep's folder: what jobs would have said on a terminal


ORPHAN_SECONDS = 5.0


class JoblibLauncher(KorlmLauncher):
    """Several jobs at a time; see korlm.config.JoblibConfig."""

    def __init__(self, **settings: Any) -> None:
        self.settings = JoblibConfig(**settings)
        with require_extra("joblib"):
            import joblib.externals.loky  # noqa: F401 - before anything is written

    def run_all(self, orders: Sequence[JobSpec], telling: ProgressLogger) -> dict[int, JobResult]:
        """Does jobs, the next one as soon as a place is free."""
        workers = [Worker(share) for share in self._shares(len(orders))]
        _tell_shares(workers, self.threads, orders[0].folder.parent / OUTPUT)
        found: dict[int, JobResult] = {}
        waiting = list(reversed(orders))
        running: dict[Future[JobResult], tuple[Worker, JobSpec]] = {}
        try:
            while waiting or running:
                busy = {id(worker) for worker, _ in running.values()}
                for worker in workers:
                    if waiting and id(worker) not in busy:
                        order = waiting.pop()
                        telling.start(order)
                        running[worker.start(order)] = (worker, order)
                # With a limit: Windows hears no Ctrl-C in an endless wait.
                for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    worker, order = running.pop(future)
                    found[order.number] = telling.end(order, worker.outcome(future, order))
            return found
        except KeyboardInterrupt:
            if running:
                logger.info("stopping %d jobs; Ctrl-C again ends them at once", len(running))
            for worker, _ in running.values():
                worker.interrupt()
            while running:
                for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    worker, order = running.pop(future)
                    telling.end(order, worker.outcome(future, order))
            raise
        finally:
            for worker in workers:
                worker.end(at_once=bool(running))

    def _shares(self, num_jobs: int) -> list[dict[str, str]]:
        cores = available_cores()
        gpus = visible_gpus() if self.may_use_gpus else []
        default = jobs_at_a_time(num_jobs, cores, self.threads, len(gpus))
        return environments(self.settings.n_jobs or default, cores, self.threads, gpus)[:num_jobs]


def _tell_shares(workers: Sequence[Worker], threads: int | None, folder: Path) -> None:
    first = workers[0].environment
    each = str(threads or first["OMP_NUM_THREADS"])
    gpus = {worker.environment.get(VISIBLE) for worker in workers} - {None}
    text = "%d jobs at a time, threads each: %s%s; what they say stands in %s"
    logger.info(text, len(workers), each, f", GPUs: {len(gpus)}" if gpus else "", folder)


class Worker:
    """A place for one job at a time, and the process that does it.

    Args:
        environment: variables of the process, set before it imports anything.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._pool: Any = None

    def start(self, order: JobSpec) -> Future[JobResult]:
        """Begins a job, in a new process if there is none or the last one has died."""
        from joblib.externals.loky import ProcessPoolExecutor

        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                env=self.environment,
                initializer=_begin_process,
                initargs=(os.getpid(),),
            )
        future: Future[JobResult] = self._pool.submit(run_quietly, order)
        return future

    def outcome(self, future: Future[JobResult], order: JobSpec) -> JobResult:
        """What became of a job; waits for its end."""
        try:
            return future.result()
        except BrokenExecutor as error:
            self._pool = None
            exit_codes = re.search(r"\{(.*)\}", str(error))
            how = exit_codes[1] if exit_codes else type(error).__name__
            return record_crash(
                order, f"its process died ({how}), for want of memory perhaps; go on with -m resume"
            )
        except Exception as error:  # ours, on the way to the process or back
            return record_crash(order, format_exception(error))

    def interrupt(self) -> None:
        """Tells the process to stop its job cleanly.

        Ctrl-C reaches it as well, but a second SIGINT would mean at once; SIGTERM may come twice.
        """
        for pid in list(self._pool._processes):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)

    def end(self, at_once: bool) -> None:
        """Ends the process, and what runs in it if that has to be at once."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=at_once)
            self._pool = None


def _begin_process(parent: int) -> None:
    """In the new process: the terminal's Ctrl-C is the parent's affair, and so is its output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _redirect_output(Path(os.devnull))
    if sys.platform != "win32":
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


_at_work = threading.Event()


def _watch(parent: int) -> None:
    """Ends the process when the sweep was killed; a job that runs comes to its end first."""
    while os.getppid() == parent or _at_work.is_set():
        time.sleep(ORPHAN_SECONDS)
    os._exit(0)


def run_quietly(order: JobSpec) -> JobResult:
    """In the process: does a job, its output in a file; SIGTERM stops it."""
    place = order.folder.parent / OUTPUT
    place.mkdir(parents=True, exist_ok=True)
    _redirect_output(place / f"{order.folder.name}.log")
    _at_work.set()
    try:
        with signals_as_keyboard_interrupt():
            return run(order)
    except KeyboardInterrupt:
        return JobResult()
    finally:
        _at_work.clear()
        _redirect_output(Path(os.devnull))


def _redirect_output(path: Path) -> None:
    """Leads stdout and stderr into a file, those of libraries and children as well."""
    sys.stdout.flush()
    sys.stderr.flush()
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    os.close(opened)
