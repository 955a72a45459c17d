"""hydra/launcher=submitit_slurm and submitit_local: jobs of a cluster, or of this machine as one.

submitit writes each order into its folder, where the job's processes read it, wherever they run. A
sweep waits for its jobs; if it is killed, they go on, and a later command finds what they finished.
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


ARRAY_SIZE = 1000  # jobs in one array; SLURM takes 1001 unless it is told otherwise


class SubmititLauncher(KorlmLauncher):
    """What a cluster and this machine have in common."""

    settings: SubmititConfig
    poll_seconds: float

    def run_all(self, orders: Sequence[JobSpec], telling: ProgressLogger) -> dict[int, JobResult]:
        """Submits jobs, and waits for them."""
        found: dict[int, JobResult] = {}
        waiting, running = list(orders), dict[int, tuple[Any, JobSpec]]()
        try:
            with _importable():
                while waiting or running:
                    count = self.room(len(running))
                    for order, job in self.submit(waiting[:count], set(running)):
                        running[order.number] = (job, order)
                        telling.start(order, f" as job {job.job_id} of the queue")
                    del waiting[:count]
                    for number, (job, order) in list(running.items()):
                        if job.task(0).done():
                            found[number] = telling.end(order, _outcome(job, order))
                            del running[number]
                    time.sleep(self.poll_seconds)
            return found
        except KeyboardInterrupt:
            logger.info("stopping %d jobs; each writes last.pt", len(running))
            self.cancel([job for job, _ in running.values()])
            raise

    @abstractmethod
    def room(self, num_running: int) -> int:
        """How many jobs may be submitted now."""

    @abstractmethod
    def submit(self, orders: Sequence[JobSpec], running: set[int]) -> Iterator[tuple[JobSpec, Any]]:
        """Submits jobs, as many as there is room for."""

    @abstractmethod
    def cancel(self, jobs: Sequence[Any]) -> None:
        """Tells jobs to stop."""

    @property
    def num_tasks(self) -> int:
        """Processes that train one model."""
        return self.settings.tasks_per_node * self.settings.nodes


class LocalLauncher(SubmititLauncher):
    """This machine as a cluster; see korlm.config.LocalConfig."""

    poll_seconds = 0.2

    def __init__(self, **settings: Any) -> None:
        self.settings = LocalConfig(**settings)
        with require_extra("submitit"):
            import submitit  # noqa: F401 - before anything is written

    def run_all(self, orders: Sequence[JobSpec], telling: ProgressLogger) -> dict[int, JobResult]:
        """Submits jobs as places get free."""
        self.free = self._shares(len(orders))
        self.used: dict[int, dict[str, str]] = {}
        return super().run_all(orders, telling)

    def _shares(self, num_jobs: int) -> list[dict[str, str]]:
        """The environment of each place; GPUs as in hydra/launcher=joblib."""
        settings, cores = self.settings, available_cores()
        gpus = visible_gpus() if self.may_use_gpus and settings.gpus_per_node != 0 else []
        each = settings.gpus_per_node or settings.tasks_per_node
        if each > len(gpus) and (gpus or settings.gpus_per_node):
            raise ConfigError(
                f"hydra.launcher: {each} GPUs for each job, but there are {len(gpus)} to be used "
                "here: lower gpus_per_node or tasks_per_node, or use trainer.device=cpu"
            )
        cpus = (settings.cpus_per_task or 1) * settings.tasks_per_node
        default = len(gpus) // each if gpus else max(1, cores // cpus)
        count = settings.array_parallelism or default
        of_task = cores // settings.tasks_per_node  # all processes of a job have its environment
        shares = environments(count, of_task, self.threads, gpus, each)[:num_jobs]
        logger.info("%d jobs at a time; what they say stands in %s", len(shares), self._folder())
        return [{VISIBLE: "", **share} for share in shares]

    def _folder(self) -> str:
        return str(Path(self.settings.folder).parent)

    def room(self, num_running: int) -> int:
        """How many places are free."""
        return len(self.free) + len(self.used) - num_running

    def submit(self, orders: Sequence[JobSpec], running: set[int]) -> Iterator[tuple[JobSpec, Any]]:
        """Starts jobs; submitit starts a process that looks after each."""
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
        for order in orders:
            share = self.used[order.number] = self.free.pop()
            with _ignore_sigint():
                job = executor.submit(Submitted(), replace(order, environment=share))
            yield order, job

    def cancel(self, jobs: Sequence[Any]) -> None:
        """Passes SIGTERM on to the processes of jobs, and waits till they have ended."""
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
            import submitit  # noqa: F401 - before anything is written
        if not (shutil.which("sbatch") and shutil.which("srun")):
            raise ConfigError(
                "hydra/launcher=submitit_slurm: finds no sbatch and srun here: start it on a "
                "machine of the cluster, or use hydra/launcher=submitit_local or joblib"
            )

    def room(self, num_running: int) -> int:
        """One array after the other: SLURM bounds their size."""
        return 0 if num_running else ARRAY_SIZE

    def submit(self, orders: Sequence[JobSpec], running: set[int]) -> Iterator[tuple[JobSpec, Any]]:
        """Submits an array."""
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError

        from korlm.sweeps.launchers.submitit_job import Submitted

        if not orders:
            return
        settings = self.settings
        executor = AutoExecutor(
            settings.folder, cluster="slurm", slurm_max_num_timeout=settings.max_num_timeout
        )
        executor.update_parameters(**_sbatch_parameters(settings))
        try:
            jobs = executor.map_array(Submitted(), orders)
        except FailedJobError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"hydra/launcher=submitit_slurm: sbatch refuses: {reason}") from error
        yield from zip(orders, jobs, strict=True)

    def cancel(self, jobs: Sequence[Any]) -> None:
        """Calls scancel once for each array: SLURM sends SIGTERM, and kills half a minute later."""
        if jobs:
            arrays = sorted({str(job.job_id).partition("_")[0] for job in jobs})
            subprocess.run(["scancel", *arrays], check=False)


def _sbatch_parameters(settings: SlurmConfig) -> dict[str, Any]:
    """As submitit names them; what is null is left to the cluster."""
    shared = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node")
    own = ("signal_delay_s", "array_parallelism", "partition", "account", "qos", "constraint")
    return {
        **{key: getattr(settings, key) for key in (*shared, "tasks_per_node")},
        **{f"slurm_{key}": getattr(settings, key) for key in own},
        "slurm_setup": settings.setup or None,
        # Without it some clusters refuse to queue a job again that has come to its limit.
        "slurm_additional_parameters": {"requeue": True, **settings.additional_parameters},
        "stderr_to_stdout": True,
    }


def _outcome(job: Any, order: JobSpec) -> JobResult:
    """What became of a job whose processes have ended; the first one's word is its result."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    first = job.task(0)
    first._results_timeout_s = 2
    try:
        outcome: JobResult = first.result()
        return outcome
    except UncompletedJobError:
        reason = f"its processes ended without a word, state {first.state}"
    except FailedJobError as error:
        lines = [line for line in str(error).splitlines() if "Error: " in line]
        reason = " ".join(lines[-1:]) or "its processes failed"
    return record_crash(order, f"{reason}; see {first.paths.stdout}")


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Lets the processes of jobs find korlm wherever this one found it."""
    place = str(Path(__file__).resolve().parents[3])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (place, before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def _ignore_sigint() -> Iterator[None]:
    """Processes started here ignore Ctrl-C: submitit's would kill their jobs a second later."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
