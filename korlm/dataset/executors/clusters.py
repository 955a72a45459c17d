"""Start Dask workers: local processes, SLURM jobs or pods."""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.config
from distributed import LocalCluster, Status, TimeoutError

from korlm import _version
from korlm.config import ClusterConfig, JavaConfig, TokenizerConfig, WorkerConfig
from korlm.config.commands.prepare import KUBERNETES, LOCAL, SLURM
from korlm.dataset.executors import worker
from korlm.dataset.executors.worker import MEMORY_BESIDE_HEAP, fit_to_memory
from korlm.utils.errors import ClusterError, KorlmError, require_extra
from korlm.utils.machine import available_cores
from korlm.utils.signals import preserve_sigint_handler
from korlm.utils.slurm import QUEUE_COMMAND

THREADS = 4  # of a JVM; they share its dictionary
LOST_SECONDS = 300  # without any worker of this machine, before the command gives up


class ClusterStarter:
    """Starts the workers of the settings; ``logs`` is the folder of the output of SLURM jobs."""

    def __init__(self, config: ClusterConfig, tokenizer: TokenizerConfig, logs: Path) -> None:
        self._address = config.cluster
        self._config, self._tokenizer, self._logs = config, tokenizer, logs

    def threads(self) -> int:
        """Return the number of threads of a JVM."""
        if not isinstance(self._tokenizer, WorkerConfig):
            return 1
        threads = self._tokenizer.threads or THREADS
        return min(threads, available_cores()) if self._address == LOCAL else threads

    def _memory(self) -> int:
        """Return the memory of a worker in MB."""
        if self._config.memory_gb is not None:
            memory = int(self._config.memory_gb * 1024)
            fit_to_memory(self._tokenizer, self.threads(), memory)  # raises if it is not enough
            return memory
        alone = fit_to_memory(self._tokenizer, self.threads(), None)
        heap = alone.heap_mb if isinstance(alone, JavaConfig) else None
        return MEMORY_BESIDE_HEAP + (heap or 0)

    def start(self) -> Any:
        """Start the cluster of the settings; raise a ``ClusterError`` if Dask refuses them."""
        assert self._address is not None
        kinds = {LOCAL: self._local, SLURM: self._slurm, KUBERNETES: self._kubernetes}
        try:
            return kinds[self._address]()
        except KorlmError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            reason: BaseException = error
            while (cause := reason.__cause__ or reason.__context__) is not None:
                reason = cause
            raise ClusterError(
                f"prepare.cluster={self._address}: did not start with prepare.options="
                f"{self._config.options or {}}: {reason}"
            ) from error

    def _local(self) -> Any:
        options = {
            "n_workers": self._config.workers or max(1, available_cores() // self.threads()),
            "threads_per_worker": 1,
            "memory_limit": self._memory() << 20,
            "host": "127.0.0.1",
            "dashboard_address": "127.0.0.1:0",
            "silence_logs": logging.CRITICAL,
            "preload": [worker.__name__],
        }
        # Dask gives up a worker that does not start again, for example for lack of memory.
        timeout = {"distributed.scheduler.no-workers-timeout": LOST_SECONDS}
        with dask.config.set(timeout):
            return LocalCluster(**options | (self._config.options or {}))

    def _slurm(self) -> Any:
        with require_extra("distributed", "dask-jobqueue"), preserve_sigint_handler():
            from dask_jobqueue import SLURMCluster
        if shutil.which("sbatch") is None:
            raise ClusterError(
                "prepare.cluster=slurm: there is no sbatch on this machine; run the command on one "
                "from which SLURM jobs are submitted"
            )
        source = str(Path(_version.__file__).resolve().parent.parent)
        options = {
            "cores": 1,
            "job_cpu": self.threads(),
            "processes": 1,
            "memory": f"{self._memory()} MiB",
            "job_script_prologue": [f"export PYTHONPATH={shlex.quote(source)}:$PYTHONPATH"],
            "log_directory": str(self._logs),
            "python": sys.executable,
            "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
            "silence_logs": logging.CRITICAL,
        }
        cluster: Any = SLURMCluster(**options | (self._config.options or {}))
        # As ``scale`` does, which would only log errors.
        for _ in range(self._config.workers or 1):
            cluster.worker_spec.update(cluster.new_worker_spec())
        try:
            cluster.sync(cluster._correct_state)
        except RuntimeError as error:  # its message holds the output of sbatch
            for job in cluster._created:  # Dask would wait for rejected jobs when it closes
                if job.status is Status.created:
                    job.status = Status.failed
            close_cluster(cluster)
            output = str(error).partition("stderr:")[2] or str(error)
            message = " ".join(output.replace("sbatch: error: ", "").split())
            raise ClusterError(f"prepare.cluster={SLURM}: sbatch: {message}") from error
        # Jobs that end early are replaced.
        cluster.adapt(minimum=self._config.workers, maximum=self._config.workers)
        return cluster

    def _kubernetes(self) -> Any:
        with require_extra("distributed", "dask-kubernetes"):
            from dask_kubernetes.operator import KubeCluster
        memory = {"memory": f"{self._memory()}Mi"}
        options = {
            "n_workers": self._config.workers,
            "resources": {"requests": memory, "limits": memory},
        }
        return KubeCluster(**options | (self._config.options or {}))


def check_jobs(cluster: Any, folder: Path) -> None:
    """Raise a ``ClusterError`` if all SLURM jobs of a cluster have ended before a worker started.

    Dask replaces only jobs whose workers it knew, and would wait forever. ``folder`` has the output
    of the jobs.
    """
    try:
        done = subprocess.run(QUEUE_COMMAND, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return  # SLURM may answer next time
    # Ids, as Dask does not close a cluster whose jobs are variables of the error's traceback.
    ids = [str(job.job_id) for job in cluster.workers.values()]
    if set(ids) & set(done.stdout.split()):
        return
    logs = [path for name in ids for path in folder.glob(f"*-{name}.err")]
    lines = [line for path in logs for line in path.read_text("utf-8", "replace").splitlines()]
    last = f"; the last line of their output: {lines[-1]}" if lines else ""
    raise ClusterError(
        f"prepare.cluster={SLURM}: the jobs ended before a worker started; their output is in "
        f"{folder}{last}"
    )


def close_cluster(cluster: Any) -> None:
    """Close a cluster; one that does not end in time ends with this process."""
    try:
        cluster.close(timeout=30)
    except TimeoutError:
        # When Python exits, it ends the worker processes. A nanny that started them again at that
        # moment would keep Python from exiting.
        for nanny in getattr(cluster, "workers", {}).values():
            nanny.auto_restart = False
