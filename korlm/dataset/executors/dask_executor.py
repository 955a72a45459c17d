"""Runs functions on Dask workers: local processes, SLURM jobs, pods, or an existing cluster.

Dask processes exchange pickles: anyone who can reach the scheduler or a worker can run code there.
The network must be trusted, or protected by TLS in the settings of Dask.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import shlex
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dask.config
from distributed import (
    Client,
    Future,
    KilledWorker,
    LocalCluster,
    Status,
    TimeoutError,
    as_completed,
)
from distributed.scheduler import NoWorkerError
from distributed.security import Security

from korlm import _version
from korlm._version import __version__
from korlm.config import ClusterConfig, JavaConfig, TokenizerConfig, WorkerConfig
from korlm.config.commands.prepare import KUBERNETES, LOCAL, SLURM
from korlm.dataset.executors import remote_call, worker
from korlm.dataset.executors.base import Executor, Item, Result
from korlm.dataset.executors.worker import MEMORY_BESIDE_HEAP, fit_to_memory
from korlm.dataset.storage.piece_files import PieceRecord
from korlm.dataset.tokenize import PieceText, TokenizeSettings, read_tokenizer_model
from korlm.tokenizers.registry import tokenizer_version
from korlm.utils.cpu import available_cores
from korlm.utils.errors import (
    ClusterError,
    ConfigError,
    CorpusError,
    KorlmError,
    TokenizerError,
    require_extra,
)
from korlm.utils.progress import ProgressBar
from korlm.utils.signals import preserve_sigint_handler

logger = logging.getLogger(__name__)

THREADS = 4  # of a JVM; they share its dictionary
REACH_SECONDS = 15  # until the scheduler of an address must answer
IDLE_SECONDS = 15  # without any worker, before a warning
LOST_SECONDS = 300  # without any worker of this machine, before the command gives up
MAX_INITIAL_FAILURES = 4  # failed pieces before the first success

# Dask's processes check clocks and memory many times per second, which costs several percent of a
# core in the process that waits for the pieces. Pieces take minutes. Settings of the user win.
DASK_DEFAULTS = {
    "distributed": {
        "admin": {"tick": {"interval": "1s"}, "system-monitor": {"interval": "5s"}},
        "client": {"scheduler-info-interval": "20s"},
        "scheduler": {"active-memory-manager": {"start": False}},
        "worker": {"memory": {"monitor-interval": "1s"}, "profile": {"enabled": False}},
    }
}


class DaskExecutor(Executor):
    """A connection to workers; a context manager that stops the workers it started.

    Args:
        config: settings of the cluster.
        tokenizer: settings of the tokenizer that the workers run.
        logs: folder of the output of SLURM jobs.

    Raises:
        ConfigError: the settings contradict each other.
        ClusterError: the scheduler does not answer.
        MissingPackageError: a package of the cluster is not installed.
    """

    def __init__(self, config: ClusterConfig, tokenizer: TokenizerConfig, logs: Path) -> None:
        assert config.cluster is not None
        self._address = config.cluster
        self._config, self._tokenizer, self._logs = config, tokenizer, logs
        self._stack = contextlib.ExitStack()
        self._client: Any = None
        if isinstance(tokenizer, WorkerConfig) and tokenizer.workers != 1:
            raise ConfigError(
                f"tokenizer.workers={tokenizer.workers}: each worker of a cluster has one; give "
                "prepare.workers"
            )

    def __enter__(self) -> DaskExecutor:
        dask.config.update_defaults(DASK_DEFAULTS)
        with self._stack:
            # korlm reports lost workers itself.
            for name in ("asyncio", "distributed", "distributed.client"):
                dask_logger = logging.getLogger(name)
                self._stack.callback(dask_logger.setLevel, dask_logger.level)
                dask_logger.setLevel(logging.CRITICAL)
            start = {LOCAL: self._local, SLURM: self._slurm, KUBERNETES: self._kubernetes}
            cluster = self._start(start[self._address]) if self._address in start else None
            if cluster is not None:
                self._stack.callback(_close, cluster)
            self._client = self._connect(cluster or self._address)
            if cluster is None:
                self._check_versions()
                self._stack.callback(self._release_workers)
            self._wait_for_workers()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run_all(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each item with the result of the function, in the order in which they end.

        Dask repeats the items of a worker that died. Those whose workers died again and again are
        tried once more when all others are done, one at a time.

        Raises:
            ClusterError: an item failed; raised when all others are done. Or a worker could run
                nothing, before any item was done.
            CorpusError: an item failed, if its text is the reason.
            OSError: likewise, if its files could not be read or written.
        """
        task, expected = remote_call.task_function(), remote_call.versions()
        name = getattr(getattr(function, "func", function), "__name__", "piece").strip("_")
        pending: dict[Future, Item] = {}
        killed: list[tuple[Item, BaseException]] = []
        failed: list[tuple[Item, BaseException]] = []
        stopped: set[str] = set()
        num_done, is_retry = 0, False

        def submit(item: Item) -> Future:
            call = remote_call.pickle_call(function, item)
            future = self._client.submit(task, expected, call, key=f"{name}-{uuid.uuid4().hex}")
            pending[future] = item
            return future

        futures = as_completed([submit(item) for item in items], loop=self._client.loop)
        for future in futures:
            item, error = pending.pop(future), self._error_of(future)
            if error is None:
                answer = remote_call.Answer(*future.result())
                if answer.problem:
                    if answer.worker not in stopped:
                        self._stop_worker(answer, bool(num_done))
                    stopped.add(answer.worker)
                    futures.add(submit(item))
                    continue
                num_done += 1
                yield item, answer.result
            elif isinstance(error, KilledWorker) and not is_retry:
                killed.append((item, error))  # others may have killed its workers
            else:
                failed.append((item, error))
                logger.warning("%s: %s", _name(item), _reason(error))
            if not num_done and len(failed) + len(killed) >= MAX_INITIAL_FAILURES:
                failed += killed
                break  # the others are cancelled with the connection
            if killed and not pending:
                is_retry = True
                futures.add(submit(killed.pop()[0]))
        if failed:
            raise self._failure(failed, len(pending))

    def _stop_worker(self, answer: remote_call.Answer, others_work: bool) -> None:
        """Stop a worker that cannot run the calls.

        Raises:
            ClusterError: it is not known that other workers can, or there are none.
        """
        problem = f"the worker {answer.worker} {answer.problem}"
        others = set(self._client.nthreads()) - {answer.worker}
        if not (others_work and others):
            raise ClusterError(f"prepare.cluster={self._address}: {problem}")
        logger.warning("%s; it is stopped, the others continue", problem)
        self._client.retire_workers([answer.worker])

    def _error_of(self, future: Future) -> BaseException | None:
        """Return why a piece failed, once it is done; None if it did not.

        Raises:
            ClusterError: all other pieces would fail for the same reason.
        """
        error: BaseException | None = future.exception()  # waits; None if it was cancelled
        if future.cancelled():
            raise ClusterError(
                f"prepare.cluster={self._address}: lost the connection to the scheduler; the "
                "same command continues: tokenized pieces are kept"
            )
        expected = (KilledWorker, CorpusError, TokenizerError, OSError, MemoryError)
        if error is None or isinstance(error, expected):
            return error
        if isinstance(error, KorlmError):
            raise error
        if isinstance(error, NoWorkerError):
            raise ClusterError(
                f"prepare.cluster={self._address}: all workers ended and could not be started "
                "again; the same command continues: tokenized pieces are kept"
            ) from error
        message = " ".join(f"{type(error).__name__}: {error}".split())
        if isinstance(error, (ImportError, AttributeError)):
            message += f"; is korlm {__version__} installed where the workers run?"
        raise ClusterError(f"prepare.cluster={self._address}: {message}") from error

    def _failure(self, failed: list[tuple[Any, BaseException]], num_left: int) -> BaseException:
        """Return the error about failed pieces, after all others are done."""
        errors = [error for _, error in failed]
        if len(failed) == 1 and isinstance(errors[0], (CorpusError, OSError)):
            return errors[0]
        details = "; ".join(f"{_name(item)}: {_reason(error)}" for item, error in failed)
        if num_left:
            return ClusterError(f"the first {len(failed)} pieces failed: {details}")
        return ClusterError(
            f"the cluster could not process {len(failed)} of the pieces: {details}; "
            "the same command continues, also without prepare.cluster: tokenized pieces are kept"
        )

    def tokenize(
        self, settings: TokenizeSettings, texts: list[PieceText], cache: Path, bar: ProgressBar
    ) -> Iterator[tuple[PieceText, PieceRecord]]:
        """See ``Executor.tokenize``; workers have no line cache."""
        version = tokenizer_version(
            settings.tokenizer, read_tokenizer_model(settings.folder, settings.tokenizer)
        )
        if "://" not in self._address:
            tokenizer = fit_to_memory(settings.tokenizer, self._threads(), None)
            settings = dataclasses.replace(settings, tokenizer=tokenizer)
        function = functools.partial(worker.tokenize_on_worker, settings, version)
        for text, record in self.run_all(function, texts):
            bar.update(text.num_chars)
            yield text, record

    def _threads(self) -> int:
        """Return the number of threads of a JVM."""
        if not isinstance(self._tokenizer, WorkerConfig):
            return 1
        threads = self._tokenizer.threads or THREADS
        return min(threads, available_cores()) if self._address == LOCAL else threads

    def _memory(self) -> int:
        """Return the memory of a worker in MB."""
        if self._config.memory_gb is not None:
            memory = int(self._config.memory_gb * 1024)
            fit_to_memory(self._tokenizer, self._threads(), memory)  # raises if it is not enough
            return memory
        alone = fit_to_memory(self._tokenizer, self._threads(), None)
        heap = alone.heap_mb if isinstance(alone, JavaConfig) else None
        return MEMORY_BESIDE_HEAP + (heap or 0)

    def _start(self, cluster: Callable[[], Any]) -> Any:
        """Start a cluster.

        Raises:
            ClusterError: Dask refuses its arguments.
        """
        try:
            return cluster()
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
            "n_workers": self._config.workers or max(1, available_cores() // self._threads()),
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
            "job_cpu": self._threads(),
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
            _close(cluster)
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

    def _connect(self, address: Any) -> Client:
        if self._address.startswith("tls://"):
            self._check_certificates()
        try:
            client = Client(address, timeout=REACH_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"prepare.cluster={self._address}: no Dask scheduler answers there within "
                f"{REACH_SECONDS} s; start one with: dask scheduler"
            ) from error
        self._stack.callback(client.close)
        return client

    def _check_certificates(self) -> None:
        """Check that the settings of Dask have certificates for TLS, without which it fails later.

        Raises:
            ClusterError: they have none, or these cannot be read.
        """
        problem = "there are none"
        try:
            if Security().get_connection_args("client")["ssl_context"] is not None:
                return
        except OSError as error:  # also ssl.SSLError
            problem = str(error)
        raise ClusterError(
            f"prepare.cluster={self._address}: TLS needs certificates, ca-file, client.cert and "
            f"client.key of distributed.comm.tls in the settings of Dask: {problem}"
        )

    def _check_versions(self) -> None:
        """Check the versions of the workers of an existing cluster.

        Raises:
            ClusterError: korlm is missing somewhere, or versions differ.
        """
        check, expected = remote_call.check_function(), remote_call.versions()
        # ignore workers that are gone
        problems = self._client.run(check, expected, on_error="ignore")
        for process, problem in problems.items():
            if problem:
                raise ClusterError(
                    f"prepare.cluster={self._address}: the worker {process} {problem}"
                )

    def _release_workers(self) -> None:
        """Stop the tokenizers of workers that korlm did not start, and free their memory."""
        with contextlib.suppress(Exception):  # a worker may be gone
            self._client.run(worker.release, on_error="ignore")

    def _wait_for_workers(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=IDLE_SECONDS)
        except TimeoutError:
            hints = {
                SLURM: "SLURM has not started any worker; squeue --me shows why",
                KUBERNETES: "Kubernetes has not started any worker; kubectl get pods shows why",
                LOCAL: "no worker is running",
            }
            other = f"no worker is running; start some with: dask worker {self._address}"
            logger.warning("%s", hints.get(self._address, other))
            self._client.wait_for_workers(1)


def _close(cluster: Any) -> None:
    """Close a cluster; one that does not end in time ends with this process."""
    try:
        cluster.close(timeout=30)
    except TimeoutError:
        # When Python exits, it ends the worker processes. A nanny that started them again at that
        # moment would keep Python from exiting.
        for nanny in getattr(cluster, "workers", {}).values():
            nanny.auto_restart = False


def _name(item: Any) -> str:
    """Return the files of an item, for messages."""
    return f"piece {item[0]}" if isinstance(item, tuple) else str(item)


def _reason(error: BaseException) -> str:
    if isinstance(error, KilledWorker):
        return "its workers died (if they ran out of memory, raise prepare.memory_gb)"
    return " ".join(str(error).split()) or type(error).__name__
