"""The workers of a Dask cluster: processes of this machine, jobs of SLURM, or somebody else's.

Dask sends pickles between its processes, so whoever reaches the scheduler or a worker can run any
code there: such a network must be trusted, or closed with TLS by Dask's own settings.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, Status

import korlm
from korlm.config import ClusterConfig, JavaConfig, TokenizerConfig, WorkerConfig
from korlm.config.cluster import LOCAL, SLURM
from korlm.data import shard_maker
from korlm.data.shard_maker import BESIDE_HEAP, fitted, let_go
from korlm.data.slow import available_cores
from korlm.errors import ClusterError, ConfigError, optional
from korlm.signals import ctrl_c_as_it_was

logger = logging.getLogger(__name__)

THREADS = 4  # of a JVM, which share its dictionary
REACH_SECONDS = 15  # for the scheduler of an address to answer
ASK_SECONDS = 30.0  # between two askings for the workers that are missing
# Deaths of workers that a shard survives, of whatever cause: it is tried again alone afterwards.
_DASK = {"distributed.scheduler.allowed-failures": 1}


class Crew:
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
        self._asked: float | None = None
        self._cluster: Any = None
        if isinstance(tokenizer, WorkerConfig) and tokenizer.workers != 1:
            raise ConfigError(
                f"tokenizer.workers={tokenizer.workers}: each worker of a cluster has one; give "
                "prepare.workers"
            )

    def __enter__(self) -> Crew:
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
                self._cluster = self._slurm()
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
            client.run(let_go, on_error="ignore")

    def _threads(self) -> int:
        if not isinstance(self.tokenizer, WorkerConfig):
            return 1
        return self.tokenizer.threads or THREADS

    def _memory(self, threads: int) -> int:
        """MB of a worker."""
        if self._config.memory_gb is not None:
            memory = int(self._config.memory_gb * 1024)
            fitted(self.tokenizer, threads, memory)  # tells here and now if it is not enough
            return memory
        alone = fitted(self.tokenizer, threads, None)
        heap = alone.heap if isinstance(alone, JavaConfig) else None
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
            preload=[shard_maker.__name__],
        )

    def _slurm(self) -> Any:
        with optional("cluster"), ctrl_c_as_it_was():
            from dask_jobqueue import SLURMCluster
        if shutil.which("sbatch") is None:
            raise ClusterError(
                "prepare.cluster=slurm: there is no sbatch on this machine; give the command on "
                "one from which jobs are sent to SLURM"
            )
        config, threads = self._config, self._threads()
        source = str(Path(korlm.__file__).resolve().parent.parent)
        return SLURMCluster(
            cores=threads,
            processes=1,
            memory=f"{self._memory(threads)} MiB",
            queue=config.queue,
            account=config.account,
            walltime=config.walltime,
            interface=config.interface,
            job_extra_directives=list(config.sbatch),
            job_script_prologue=[f"export PYTHONPATH={shlex.quote(source)}:$PYTHONPATH"],
            log_directory=str(self._logs),
            python=sys.executable,
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
        )

    def ask(self) -> None:
        """Asks SLURM for the workers that are missing, now and then.

        Raises:
            ClusterError: SLURM takes none of them.
        """
        is_first = self._asked is None
        if self.place != SLURM or (self._asked or -ASK_SECONDS) > time.monotonic() - ASK_SECONDS:
            return
        self._asked = time.monotonic()
        try:
            self._cluster.sync(self._fill)
        except RuntimeError as error:  # with all that sbatch said
            said = str(error).partition("stderr:")[2] or str(error)
            told = " ".join(said.replace("sbatch: error: ", "").split())
            if is_first:
                raise ClusterError(f"prepare.cluster=slurm: sbatch says: {told}") from error
            logger.warning("sbatch says: %s", told)

    async def _fill(self) -> None:
        """What ``scale`` does, but its failures come to light; jobs that ended are sent anew."""
        specs, wanted = self._cluster.worker_spec, self._config.workers or 1
        while len(specs) < wanted:
            specs.update(self._cluster.new_worker_spec())
        try:
            await self._cluster._correct_state()
        except RuntimeError:
            for job in self._cluster._created:  # else Dask, when it ends, waits for refused ones
                if job.status is Status.created:
                    job.status = Status.failed
            raise

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
