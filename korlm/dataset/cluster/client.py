"""Workers of a Dask cluster: local processes, SLURM jobs, or an existing cluster.

Dask processes exchange pickles: anyone who can reach the scheduler or a worker can run code there.
The network must be trusted, or protected by TLS in the settings of Dask.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster

from korlm.config import ClusterConfig, JavaConfig, TokenizerConfig, WorkerConfig
from korlm.config.commands.prepare import LOCAL, SLURM
from korlm.dataset.cluster import task
from korlm.dataset.cluster.slurm import Jobs
from korlm.dataset.cluster.task import MEMORY_BESIDE_HEAP, fit_to_memory, release
from korlm.utils.cpu import available_cores
from korlm.utils.errors import ClusterError, ConfigError

THREADS = 4  # of a JVM; they share its dictionary
REACH_SECONDS = 15  # until the scheduler of an address must answer
# Number of worker deaths after which Dask gives up a shard; it is then retried alone.
_DASK = {"distributed.scheduler.allowed-failures": 1}


class ClusterClient:
    """A connection to workers; a context manager that stops the workers it started.

    Args:
        config: settings of the cluster.
        tokenizer: settings of the tokenizer that the workers run.
        logs: folder of the output of SLURM jobs.

    Raises:
        ConfigError: the settings contradict each other.
        ClusterError: the scheduler does not answer.
        MissingPackageError: dask-jobqueue is not installed.
    """

    def __init__(self, config: ClusterConfig, tokenizer: TokenizerConfig, logs: Path) -> None:
        assert config.cluster is not None
        self.tokenizer = tokenizer
        self.address = config.cluster
        self._config = config
        self._logs = logs
        self._stack = contextlib.ExitStack()
        self._jobs: Jobs | None = None
        self._cluster: Any = None
        if isinstance(tokenizer, WorkerConfig) and tokenizer.workers != 1:
            raise ConfigError(
                f"tokenizer.workers={tokenizer.workers}: each worker of a cluster has one; give "
                "prepare.workers"
            )

    def __enter__(self) -> ClusterClient:
        with self._stack:
            self._stack.enter_context(dask.config.set(_DASK))
            # korlm reports lost workers itself.
            for name in ("asyncio", "distributed", "distributed.client"):
                dask_logger = logging.getLogger(name)
                self._stack.callback(dask_logger.setLevel, dask_logger.level)
                dask_logger.setLevel(logging.CRITICAL)
            if self.address == LOCAL:
                self._cluster = self._local()
            elif self.address == SLURM:
                threads = self._threads()
                memory = self._memory(threads)
                self._jobs = Jobs(self._config, threads, memory, self._logs)
                self._cluster = self._jobs.cluster
            if self._cluster is not None:
                self._stack.callback(self._close)
            self.client = self._connect()
            self.check()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _close(self) -> None:
        with contextlib.suppress(TimeoutError):
            self._cluster.close(timeout=30)

    def _connect(self) -> Client:
        address = self.address if self._cluster is None else self._cluster
        try:
            client = Client(address, timeout=REACH_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"prepare.cluster={self.address}: no Dask scheduler answers there within "
                f"{REACH_SECONDS} s; start one with: dask scheduler"
            ) from error
        self._stack.callback(client.close)
        if self._cluster is None:
            self._stack.callback(self._release_tokenizers, client)
        return client

    def _release_tokenizers(self, client: Client) -> None:
        """Stop the tokenizers of workers that korlm did not start."""
        with contextlib.suppress(Exception):  # a worker may be gone
            client.run(release, on_error="ignore")

    def _threads(self) -> int:
        if not isinstance(self.tokenizer, WorkerConfig):
            return 1
        return self.tokenizer.threads or THREADS

    def _memory(self, threads: int) -> int:
        """Return the memory of a worker in MB."""
        if self._config.memory_gb is not None:
            memory = int(self._config.memory_gb * 1024)
            fit_to_memory(self.tokenizer, threads, memory)  # raises if it is not enough
            return memory
        alone = fit_to_memory(self.tokenizer, threads, None)
        heap = alone.heap_mb if isinstance(alone, JavaConfig) else None
        return MEMORY_BESIDE_HEAP + (heap or 0)

    def _local(self) -> LocalCluster:
        cores = available_cores()
        threads = min(self._threads(), cores)
        return LocalCluster(
            n_workers=self._config.workers or max(1, cores // threads),
            threads_per_worker=threads,
            memory_limit=self._memory(threads) << 20,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            preload=[task.__name__],
        )

    def request_workers(self) -> None:
        """Submit SLURM jobs for missing workers, at most every ``ASK_SECONDS``.

        Raises:
            ClusterError: SLURM rejects the jobs, or they end before their workers start.
        """
        if self._jobs is not None:
            self._jobs.request_workers()

    def no_workers_message(self) -> str:
        """Return the message for a cluster without workers."""
        if self.address == SLURM:
            return "SLURM has not started any worker; squeue --me shows why"
        if self.address == LOCAL:
            return "no worker is running; another one is being started"
        return f"no worker is running; start some with: dask worker {self.address}"

    def check(self) -> None:
        """Check that korlm is installed where an existing scheduler and its workers run.

        A Dask worker that cannot unpickle a task dies without an error message.

        Raises:
            ClusterError: korlm is missing somewhere.
        """
        if self._cluster is not None:
            return

        def has_korlm() -> bool:  # a nested function is pickled by value
            from importlib.util import find_spec

            return find_spec("korlm") is not None

        installed = {"scheduler": self.client.run_on_scheduler(has_korlm)}
        installed |= self.client.run(has_korlm, on_error="ignore")  # ignore workers that are gone
        for process, is_installed in installed.items():
            if not is_installed:
                raise ClusterError(
                    f"prepare.cluster={self.address}: korlm is not installed where {process} runs; "
                    "install the same version there"
                )

    def count(self) -> int:
        """Return the number of running workers."""
        try:
            return len(self.client.nthreads())
        except (OSError, TimeoutError, ValueError) as error:
            raise connection_lost(self.address) from error


def connection_lost(address: str) -> ClusterError:
    """Return the error for a scheduler that no longer answers."""
    return ClusterError(
        f"prepare.cluster={address}: lost the connection to the scheduler; finished shards are "
        "kept, the same command continues with the others"
    )
