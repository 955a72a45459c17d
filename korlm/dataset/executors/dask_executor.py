"""Runs functions on Dask workers: local processes, SLURM jobs, pods, or an existing cluster.

Dask processes exchange pickles: anyone who can reach the scheduler or a worker can run code there.
The network must be trusted, or protected by TLS in the settings of Dask.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, Future, KilledWorker, TimeoutError, as_completed
from distributed.scheduler import NoWorkerError
from distributed.security import Security

from korlm._version import __version__
from korlm.config import ClusterConfig, TokenizerConfig, WorkerConfig
from korlm.config.commands.prepare import KUBERNETES, LOCAL, SLURM
from korlm.dataset.executors import remote_call, worker
from korlm.dataset.executors.base import Executor, Item, Result
from korlm.dataset.executors.clusters import ClusterStarter, check_jobs, close_cluster
from korlm.dataset.storage.piece_files import PieceRecord
from korlm.dataset.tokenize import PieceText, TokenizeSettings, read_tokenizer_model
from korlm.tokenizers.registry import tokenizer_version
from korlm.utils.errors import (
    ClusterError,
    ConfigError,
    CorpusError,
    KorlmError,
    TokenizerError,
)
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)

REACH_SECONDS = 15  # until the scheduler of an address must answer
IDLE_SECONDS = 15  # without any worker, before a warning
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

    The output of SLURM jobs comes into the folder ``logs``.

    Raises:
        ConfigError: the settings contradict each other.
        ClusterError: the scheduler does not answer.
        MissingPackageError: a package of the cluster is not installed.
    """

    def __init__(self, config: ClusterConfig, tokenizer: TokenizerConfig, logs: Path) -> None:
        assert config.cluster is not None
        self._address = config.cluster
        self._starts_workers = "://" not in config.cluster
        self._starter, self._logs = ClusterStarter(config, tokenizer, logs), logs
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
            cluster = None
            if self._starts_workers:
                cluster = self._starter.start()
                self._stack.callback(close_cluster, cluster)
            self._client = self._connect(cluster or self._address)
            if cluster is None:
                self._check_versions()
                self._stack.callback(self._release_workers)
            self._wait_for_workers(cluster)
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
                nothing, before another one had done an item.
            CorpusError: items failed, all because of their texts.
            OSError: one item failed, as its files could not be read or written.
        """
        task, expected = remote_call.task_function(), remote_call.versions()
        name = getattr(getattr(function, "func", function), "__name__", "piece").strip("_")
        pending: dict[Future, Item] = {}
        killed: list[tuple[Item, BaseException]] = []
        failed: list[tuple[Item, BaseException]] = []
        workers_done, stopped = set[str](), set[str]()
        is_retry = False

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
                        self._stop_worker(answer, bool(workers_done - {answer.worker}))
                    stopped.add(answer.worker)
                    futures.add(submit(item))
                    continue
                workers_done.add(answer.worker)
                yield item, answer.result
            elif isinstance(error, KilledWorker) and not is_retry:
                killed.append((item, error))  # others may have killed its workers
            else:
                failed.append((item, error))
                logger.warning("%s: %s", _name(item), _reason(error))
            if not workers_done and len(failed) + len(killed) >= MAX_INITIAL_FAILURES:
                failed += killed
                break  # the others are cancelled with the connection
            if killed and not pending:
                is_retry = True
                futures.add(submit(killed.pop()[0]))
        if failed:
            raise self._failure(failed, len(pending))

    def _stop_worker(self, answer: remote_call.Answer, others_work: bool) -> None:
        """Stop a worker that cannot run the calls, if other workers can; else raise an error."""
        problem = f"the worker {answer.worker} {answer.problem}"
        if not others_work:
            raise ClusterError(f"prepare.cluster={self._address}: {problem}")
        if not set(self._client.nthreads()) - {answer.worker}:
            raise ClusterError(
                f"prepare.cluster={self._address}: no worker is left: the last one, "
                f"{answer.worker}, {answer.problem}; the same command continues: tokenized pieces "
                "are kept"
            )
        logger.warning("%s; it is stopped, the others continue", problem)
        self._client.retire_workers([answer.worker])

    def _error_of(self, future: Future) -> BaseException | None:
        """Return why a piece failed; raise the error if it would be that of all others."""
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
        if all(isinstance(error, CorpusError) for error in errors):
            return CorpusError("; ".join(dict.fromkeys(map(_reason, errors))))
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
        if self._starts_workers and isinstance(settings.tokenizer, WorkerConfig):
            # The heap is left to the worker, which knows its memory.
            tokenizer = dataclasses.replace(settings.tokenizer, threads=self._starter.threads())
            settings = dataclasses.replace(settings, tokenizer=tokenizer)
        function = functools.partial(worker.tokenize_on_worker, settings, version)
        for text, record in self.run_all(function, texts):
            bar.update(text.num_chars)
            yield text, record

    def _connect(self, address: Any) -> Client:
        if self._address.startswith("tls://"):
            self._check_certificates()
        try:
            client = Client(address, timeout=REACH_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            advice = "" if self._starts_workers else "; start one with: dask scheduler"
            raise ClusterError(
                f"prepare.cluster={self._address}: no Dask scheduler answers within "
                f"{REACH_SECONDS} s{advice}"
            ) from error
        self._stack.callback(client.close)
        return client

    def _check_certificates(self) -> None:
        """Raise an error if the settings of Dask have no certificates that can be read for TLS."""
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
        """Raise an error if korlm is missing on an existing cluster, or versions differ."""
        check, expected = remote_call.check_function(), remote_call.versions()
        found = self._client.get_versions()
        processes = {f"worker {name}": versions for name, versions in found["workers"].items()}
        for process, versions in {"scheduler": found["scheduler"], **processes}.items():
            python = ".".join(versions["host"]["python"].split(".")[:2])
            if python != expected["Python"]:
                raise ClusterError(
                    f"prepare.cluster={self._address}: the {process} has Python {python}, not "
                    f"{expected['Python']}: install the same version there"
                )
        problems = self._client.run(check, expected, on_error="return")
        for worker_address, problem in problems.items():
            if isinstance(problem, OSError):
                continue  # this worker is gone
            if isinstance(problem, Exception):
                problem = f"cannot be checked: {type(problem).__name__}: {problem}"
            if problem:
                raise ClusterError(
                    f"prepare.cluster={self._address}: the worker {worker_address} {problem}"
                )

    def _release_workers(self) -> None:
        """Stop the tokenizers of workers that korlm did not start, and free their memory."""
        with contextlib.suppress(Exception):  # a worker may be gone
            self._client.run(worker.release, on_error="ignore")

    def _wait_for_workers(self, cluster: Any) -> None:
        hints = {
            SLURM: "SLURM has not started any worker; squeue --me shows why",
            KUBERNETES: "Kubernetes has not started any worker; kubectl get pods shows why",
            LOCAL: "no worker is running",
        }
        other = f"no worker is running; start some with: dask worker {self._address}"
        hint = hints.get(self._address, other)
        while True:
            try:
                self._client.wait_for_workers(1, timeout=IDLE_SECONDS)
                return
            except TimeoutError:
                if self._address == SLURM:
                    check_jobs(cluster, self._logs)
                if hint:
                    logger.warning("%s", hint)
                hint = ""  # only once


def _name(item: Any) -> str:
    """Return a name of an item for messages: the files of a text, or the number of a piece."""
    return f"piece {item[0]}" if isinstance(item, tuple) else str(item)


def _reason(error: BaseException) -> str:
    if isinstance(error, KilledWorker):
        return "its workers died (if they ran out of memory, raise prepare.memory_gb)"
    return " ".join(str(error).split()) or type(error).__name__
