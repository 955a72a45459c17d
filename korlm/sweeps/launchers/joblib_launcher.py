"""hydra/launcher=joblib: parallel jobs on this machine, with joblib's loky.

Each worker is a pool with one process, since loky abandons a whole pool when one of its processes
dies. A process runs one job after the other, because importing PyTorch takes seconds; its
environment variables set its share of cores and GPUs.
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


OUTPUT = ".joblib"  # folder in the sweep's folder with the output of the jobs


ORPHAN_SECONDS = 5.0  # between two checks whether the sweep is still alive


class JoblibLauncher(KorlmLauncher):
    """Runs jobs in parallel; see korlm.config.JoblibConfig."""

    def __init__(self, **settings: Any) -> None:
        self.settings = JoblibConfig(**settings)
        with require_extra("joblib"):
            import joblib.externals.loky  # noqa: F401 - fail before anything is written

    def run_all(self, specs: Sequence[JobSpec], progress: ProgressLogger) -> dict[int, JobResult]:
        """Run jobs, each as soon as a worker is free."""
        workers = [Worker(share) for share in self._shares(len(specs))]
        _log_shares(workers, self.threads, specs[0].folder.parent / OUTPUT)
        results: dict[int, JobResult] = {}
        waiting = list(reversed(specs))
        running: dict[Future[JobResult], tuple[Worker, JobSpec]] = {}
        try:
            while waiting or running:
                busy = {id(worker) for worker, _ in running.values()}
                for worker in workers:
                    if waiting and id(worker) not in busy:
                        spec = waiting.pop()
                        progress.start(spec)
                        running[worker.start(spec)] = (worker, spec)
                # With a timeout: Windows ignores Ctrl-C in an endless wait.
                for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    worker, spec = running.pop(future)
                    results[spec.number] = progress.end(spec, worker.outcome(future, spec))
            return results
        except KeyboardInterrupt:
            if running:
                logger.info("stopping %d jobs; press Ctrl-C again to kill them", len(running))
            for worker, _ in running.values():
                worker.interrupt()
            while running:
                for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    worker, spec = running.pop(future)
                    progress.end(spec, worker.outcome(future, spec))
            raise
        finally:
            for worker in workers:
                worker.end(at_once=bool(running))

    def _shares(self, num_jobs: int) -> list[dict[str, str]]:
        cores = available_cores()
        gpus = visible_gpus() if self.may_use_gpus else []
        default = jobs_at_a_time(num_jobs, cores, self.threads, len(gpus))
        return environments(self.settings.n_jobs or default, cores, self.threads, gpus)[:num_jobs]


def _log_shares(workers: Sequence[Worker], threads: int | None, folder: Path) -> None:
    first = workers[0].environment
    each = str(threads or first["OMP_NUM_THREADS"])
    gpus = {worker.environment.get(VISIBLE) for worker in workers} - {None}
    text = "%d parallel jobs with %s threads each%s; output in %s"
    logger.info(text, len(workers), each, f", GPUs: {len(gpus)}" if gpus else "", folder)


class Worker:
    """A process that runs one job at a time.

    Args:
        environment: environment variables of the process.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._pool: Any = None

    def start(self, spec: JobSpec) -> Future[JobResult]:
        """Start a job, in a new process if there is none or the last one died."""
        from joblib.externals.loky import ProcessPoolExecutor

        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                env=self.environment,
                initializer=_begin_process,
                initargs=(os.getpid(),),
            )
        future: Future[JobResult] = self._pool.submit(run_quietly, spec)
        return future

    def outcome(self, future: Future[JobResult], spec: JobSpec) -> JobResult:
        """Wait for a job and return its result."""
        try:
            return future.result()
        except BrokenExecutor as error:
            self._pool = None
            exit_codes = re.search(r"\{(.*)\}", str(error))
            how = exit_codes[1] if exit_codes else type(error).__name__
            return record_crash(
                spec, f"its process died ({how}), possibly out of memory; resume with -m resume="
            )
        except Exception as error:  # raised while pickling or unpickling
            return record_crash(spec, format_exception(error))

    def interrupt(self) -> None:
        """Stop the job cleanly.

        Sends SIGTERM, which may arrive twice, since a second SIGINT would kill the job.
        """
        for pid in list(self._pool._processes):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)

    def end(self, at_once: bool) -> None:
        """End the process; kill its job if ``at_once``."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=at_once)
            self._pool = None


def _begin_process(parent: int) -> None:
    """Initialize a worker process: ignore SIGINT and discard output between jobs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _redirect_output(Path(os.devnull))
    if sys.platform != "win32":
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


_busy = threading.Event()


def _watch(parent: int) -> None:
    """Exit when the parent was killed, after the current job."""
    while os.getppid() == parent or _busy.is_set():
        time.sleep(ORPHAN_SECONDS)
    os._exit(0)


def run_quietly(spec: JobSpec) -> JobResult:
    """Run a job with its output in a file; SIGTERM stops it."""
    folder = spec.folder.parent / OUTPUT
    folder.mkdir(parents=True, exist_ok=True)
    _redirect_output(folder / f"{spec.folder.name}.log")
    _busy.set()
    try:
        with signals_as_keyboard_interrupt():
            return run(spec)
    except KeyboardInterrupt:
        return JobResult()
    finally:
        _busy.clear()
        _redirect_output(Path(os.devnull))


def _redirect_output(path: Path) -> None:
    """Redirect stdout and stderr to a file, including those of libraries and child processes."""
    sys.stdout.flush()
    sys.stderr.flush()
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    os.close(opened)
