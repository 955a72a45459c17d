"""The workers of a Dask cluster: processes of this machine, jobs of SLURM, or somebody else's.

Dask sends pickles between its processes, so whoever reaches the scheduler or a worker can run any
code there: such a network must be trusted, or closed with TLS by Dask's own settings.
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
from korlm.dataset.cluster.task import BESIDE_HEAP, fit_to_memory, release
from korlm.utils.cpu import available_cores
from korlm.utils.errors import ClusterError, ConfigError

THREADS = 4  # of a JVM, which share its dictionary


REACH_SECONDS = 15  # for the scheduler of an address to answer


# Deaths of workers that a shard survives, of whatever cause: it is tried again alone afterwards.
_DASK = {"distributed.scheduler.allowed-failures": 1}


class ClusterClient:
    """A connection to workers; a context manager that lets its own ones go.

    Args:
        config: where they are.
        tokenizer: what they are to run.
        logs: folder for what SLURM's jobs write.

    Raises:
        ConfigError: settings that do not fit together.
        ClusterError: the scheduler does not answer.
        MissingPackageError: dask-jobqueue is not installed.
    """

    def __init__(self, config: ClusterConfig, tokenizer: TokenizerConfig, logs: Path) -> None:
        assert config.cluster is not None
        self.tokenizer = tokenizer
        self.place = config.cluster
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
            # korlm tells itself what became of workers.
            for name in ("asyncio", "distributed", "distributed.client"):
                loud = logging.getLogger(name)
                self._stack.callback(loud.setLevel, loud.level)
                loud.setLevel(logging.CRITICAL)
            if self.place == LOCAL:
                self._cluster = self._local()
            elif self.place == SLURM:
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
        place = self.place if self._cluster is None else self._cluster
        try:
            client = Client(place, timeout=REACH_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"prepare.cluster={self.place}: no Dask scheduler answers there within "
                f"{REACH_SECONDS} s; start one with: dask scheduler"
            ) from error
        self._stack.callback(client.close)
        if self._cluster is None:
            self._stack.callback(self._let_go, client)
        return client

    def _let_go(self, client: Client) -> None:
        """Ends the tokenizers in workers that live on."""
        with contextlib.suppress(Exception):  # whoever is gone has none
            client.run(release, on_error="ignore")

    def _threads(self) -> int:
        if not isinstance(self.tokenizer, WorkerConfig):
            return 1
        return self.tokenizer.threads or THREADS

    def _memory(self, threads: int) -> int:
        """MB of a worker."""
        if self._config.memory_gb is not None:
            memory = int(self._config.memory_gb * 1024)
            fit_to_memory(self.tokenizer, threads, memory)  # tells here and now if it is not enough
            return memory
        alone = fit_to_memory(self.tokenizer, threads, None)
        heap = alone.heap_mb if isinstance(alone, JavaConfig) else None
        return BESIDE_HEAP + (heap or 0)

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

    def ask(self) -> None:
        """Asks SLURM for the workers that are missing, now and then.

        Raises:
            ClusterError: SLURM takes none of them, or they end before they begin to work.
        """
        if self._jobs is not None:
            self._jobs.ask()

    def missing(self) -> str:
        """What is told when nobody works."""
        if self.place == SLURM:
            return "SLURM has not started any worker; squeue --me tells why"
        if self.place == LOCAL:
            return "no worker is there; another one is being started"
        return f"no worker is there; start some with: dask worker {self.place}"

    def check(self) -> None:
        """Looks whether korlm is there where others started scheduler and workers.

        What cannot be unpacked ends a worker of Dask, without a word to whom it came from.

        Raises:
            ClusterError: naming one where it is not.
        """
        if self._cluster is not None:
            return

        def has_korlm() -> bool:  # goes there by value, as functions within functions do
            from importlib.util import find_spec

            return find_spec("korlm") is not None

        there = {"scheduler": self.client.run_on_scheduler(has_korlm)}
        there |= self.client.run(has_korlm, on_error="ignore")  # of those that are gone by now
        for place, has in there.items():
            if not has:
                raise ClusterError(
                    f"prepare.cluster={self.place}: korlm is not installed where {place} runs; "
                    "install it there as it is here"
                )

    def count(self) -> int:
        """How many workers there are now."""
        try:
            return len(self.client.nthreads())
        except (OSError, TimeoutError, ValueError) as error:
            raise lost(self.place) from error


def lost(place: str) -> ClusterError:
    """What is told when the scheduler is gone."""
    return ClusterError(
        f"prepare.cluster={place}: the connection to the scheduler was lost; what is done is kept: "
        "the same command goes on"
    )
