"""Functions that run on a Dask worker, which keeps its tokenizer and its JVM between pieces."""

from __future__ import annotations

import dataclasses
import platform
import signal
import threading

from korlm.config import JavaConfig, TokenizerConfig, WorkerConfig
from korlm.dataset.assemble import release_encoder
from korlm.dataset.executors.remote_call import UnsuitableWorkerError
from korlm.dataset.storage.piece_files import PieceRecord
from korlm.dataset.tokenize import (
    PieceText,
    TokenizeSettings,
    read_tokenizer_model,
    tokenize_piece,
)
from korlm.tokenizers.jvm import roomy_heap
from korlm.tokenizers.registry import tokenizer_version
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.errors import MissingPackageError, TokenizerError

MEMORY_BESIDE_HEAP = 1024  # MB of a worker outside the heap of its JVM; Python takes about 200
MIN_HEAP = 512  # MB


def tokenize_on_worker(settings: TokenizeSettings, version: str, text: PieceText) -> PieceRecord:
    """Tokenize a piece; a worker tokenizes one at a time.

    Raises:
        CorpusError: the text has changed since it was scanned.
        UnsuitableWorkerError: the tokenizer does not start here, or has another version.
        TokenizerError: the tokenizer dies repeatedly.
    """
    with _TOKENIZER.lock:
        pool = _TOKENIZER.pool(settings, version)
        try:
            return tokenize_piece(settings, text, pool.map)
        except TokenizerError as error:
            raise TokenizerError(f"the worker on {platform.node()}: {error}") from error


def dask_setup(worker: object) -> None:
    """Ignore SIGINT in a local worker; Dask calls this where the module is preloaded.

    Ctrl-C in a terminal reaches the workers too; the client stops them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def release() -> None:
    """Stop the tokenizer of this worker, if it is idle, and free its memory; it keeps running."""
    release_encoder()
    if _TOKENIZER.lock.acquire(blocking=False):
        try:
            _TOKENIZER.stop()
        finally:
            _TOKENIZER.lock.release()


def fit_to_memory(tokenizer: TokenizerConfig, threads: int, memory: int | None) -> TokenizerConfig:
    """Return the settings of the tokenizer for one worker: one child process, a heap that fits.

    ``threads`` and ``heap_mb`` are kept if they are set. ``memory`` is that of the worker in MB;
    None: unlimited.

    Raises:
        TokenizerError: there is not enough memory for a JVM.
    """
    if not isinstance(tokenizer, WorkerConfig):
        return tokenizer
    tokenizer = dataclasses.replace(tokenizer, workers=1, threads=tokenizer.threads or threads)
    if isinstance(tokenizer, JavaConfig):
        free = None if memory is None else memory - MEMORY_BESIDE_HEAP
        preferred = tokenizer.heap_mb or roomy_heap(tokenizer.threads or 1)
        minimum = tokenizer.heap_mb or MIN_HEAP
        if free is not None and free < minimum:
            raise TokenizerError(
                f"a worker with {memory} MB of memory has no room for a JVM with a heap of "
                f"{minimum} MB and {MEMORY_BESIDE_HEAP} MB beside it: raise prepare.memory_gb"
            )
        heap = preferred if free is None else min(preferred, free)
        tokenizer = dataclasses.replace(tokenizer, heap_mb=heap)
    return tokenizer


class _WorkerTokenizer:
    """Tokenizer of this worker process, kept between pieces; hold the lock to use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._key: object = None
        self._pool: TokenizerPool | None = None

    def pool(self, settings: TokenizeSettings, version: str) -> TokenizerPool:
        """Return the tokenizer of the settings.

        Raises:
            UnsuitableWorkerError: it does not start here, or has another version.
        """
        tokenizer = settings.tokenizer
        model = read_tokenizer_model(settings.folder, tokenizer)
        key = tokenizer, model
        if self._pool is None or self._key != key:
            self.stop()
            try:
                other = tokenizer_version(tokenizer, model)
                if other != version:
                    raise UnsuitableWorkerError(
                        f"has {tokenizer.name} {other}, not {version}: install the same version "
                        "where the workers run"
                    )
                pool = TokenizerPool(_fit_to_worker(tokenizer), model)
                list(pool.map(iter([["가"]])))  # starts its processes
            except (TokenizerError, MissingPackageError) as error:
                raise UnsuitableWorkerError(f"cannot start {tokenizer.name}: {error}") from error
            self._pool, self._key = pool, key
        return self._pool

    def stop(self) -> None:
        """End its processes."""
        if self._pool is not None:
            self._pool.__exit__()
        self._pool = self._key = None


_TOKENIZER = _WorkerTokenizer()


def _fit_to_worker(tokenizer: TokenizerConfig) -> TokenizerConfig:
    from distributed import get_worker

    worker = get_worker()
    limit = worker.memory_manager.memory_limit
    return fit_to_memory(tokenizer, worker.state.nthreads, None if limit is None else limit >> 20)
