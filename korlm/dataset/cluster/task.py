"""What a worker of a cluster does: the text of a shard in, the bytes of its Parquet file out.

A worker keeps its tokenizer, and with it the one JVM, for as long as it is asked for the same one.
It writes nothing that stays: the process that asked does, so that no disk need be shared and a
worker may die at any time.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from korlm._version import __version__
from korlm.config import JavaConfig, TokenizerConfig, Unicode, WorkerConfig
from korlm.corpus.lines import LineBlock
from korlm.dataset.shards import ShardWriter, shard_path
from korlm.dataset.statistics.tokenization_report import shard_report_path
from korlm.dataset.text_batches import Batch
from korlm.tokenizers.jvm import roomy_heap
from korlm.tokenizers.registry import tokenizer_version
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.errors import ClusterError, TokenizerError

BESIDE_HEAP = 1024  # MB of a worker that its JVM's heap does not get: Python takes some 200


LEAST_HEAP = 512  # MB


@dataclass(frozen=True)
class TokenizerSpec:
    """What a worker needs to know of the corpus: its tokenizer, and what makes equal bytes.

    ``learned`` is what the tokenizer learned from train; ``versions`` are those of the asker.
    """

    tokenizer: TokenizerConfig
    learned: bytes | None
    versions: dict[str, str]


@dataclass(frozen=True)
class ShardText:
    """All lines of a shard, as few objects as can be: they pass through two other processes.

    ``parts`` is JSON: for each batch its parts of documents, [doc_id, first, number of lines] each.
    ``lengths`` are the characters of each line (int32), ``text`` is all of them in UTF-8.
    ``unicode`` is the normalization of the corpus.
    """

    split: str
    number: int
    parts: str
    lengths: bytes
    text: bytes
    unicode: Unicode = Unicode.nfc

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> ShardText:
        """Packs the batches of one shard."""
        parts = [[(p.doc_id, p.first, len(p.texts)) for p in batch.lines] for batch in batches]
        texts = [text for batch in batches for part in batch.lines for text in part.texts]
        lengths = np.fromiter(map(len, texts), np.int32, len(texts)).tobytes()
        data = "".join(texts).encode("utf-8", "surrogatepass")
        first = batches[0]
        return cls(first.split, first.shard, json.dumps(parts), lengths, data, first.unicode)

    def batches(self) -> list[Batch]:
        """The batches that were packed."""
        text = self.text.decode("utf-8", "surrogatepass")
        ends = np.cumsum(np.frombuffer(self.lengths, np.int32), dtype=np.int64).tolist()
        texts = [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        batches, at = [], 0
        parted = json.loads(self.parts)
        for number, parts in enumerate(parted, 1):
            lines = []
            for doc_id, first, count in parts:
                lines.append(LineBlock(self.split, doc_id, first, texts[at : at + count]))
                at += count
            is_last = number == len(parted)
            batches.append(Batch(self.split, self.number, is_last, lines, self.unicode))
        return batches


@dataclass(frozen=True)
class ShardResult:
    """A shard as it is to lie on disk: its Parquet file, and its rows of the report if any."""

    parquet: bytes
    report: bytes | None


def versions(tokenizer: TokenizerConfig) -> dict[str, str]:
    """What must be equal on two machines that are to make the same bytes.

    Raises:
        TokenizerError: a package that the tokenizer needs is not installed.
    """
    return {
        "korlm": __version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),  # and with it Unicode
        "pyarrow": pa.__version__,
        tokenizer.name: tokenizer_version(tokenizer),
    }


def make_shard(kit: TokenizerSpec, shard: ShardText) -> ShardResult:
    """Tokenizes a shard; one at a time, whatever the number of threads that ask.

    Raises:
        ClusterError: this worker's tokens or files could differ from those of the asker.
        TokenizerError: the tokenizer does not start, or dies again and again.
    """
    batches = shard.batches()
    columns = _ANALYST.analyze(kit, [batch.normal for batch in batches])
    with TemporaryDirectory(prefix="korlm-") as folder:
        writer = ShardWriter(Path(folder))
        for batch, made in zip(batches, columns, strict=True):
            writer.write(batch, made)
        path = shard_path(Path(folder), shard.split, shard.number)
        report = shard_report_path(path)
        return ShardResult(path.read_bytes(), report.read_bytes() if report.exists() else None)


def dask_setup(worker: object) -> None:
    """What Dask calls where this module is preloaded: in a worker of this machine's own.

    A terminal's Ctrl-C reaches it as well; it is for the process that asked, which ends the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def release() -> None:
    """Ends the tokenizer of this worker, which may live on."""
    _ANALYST.close()


def fit_to_memory(tokenizer: TokenizerConfig, threads: int, memory: int | None) -> TokenizerConfig:
    """The settings for one worker: one child process, as many threads, a heap that fits.

    Args:
        tokenizer: of the corpus; what it says of threads and heap is kept.
        threads: of the worker.
        memory: of the worker, in MB; None: not limited.

    Raises:
        TokenizerError: there is not enough memory for a JVM.
    """
    if not isinstance(tokenizer, WorkerConfig):
        return tokenizer
    tokenizer = dataclasses.replace(tokenizer, workers=1, threads=tokenizer.threads or threads)
    if isinstance(tokenizer, JavaConfig):
        free = None if memory is None else memory - BESIDE_HEAP
        wanted = tokenizer.heap_mb or roomy_heap(tokenizer.threads or 1)
        least = tokenizer.heap_mb or LEAST_HEAP
        if free is not None and free < least:
            raise TokenizerError(
                f"a worker with {memory} MB of memory has no room for a JVM with a heap of {least} "
                f"MB and {BESIDE_HEAP} MB beside it: give it more (prepare.memory_gb)"
            )
        heap = wanted if free is None else min(wanted, free)
        tokenizer = dataclasses.replace(tokenizer, heap_mb=heap)
    return tokenizer


class _WorkerTokenizer:
    """The tokenizer of this process, kept from shard to shard."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kit: TokenizerSpec | None = None
        self._pool: TokenizerPool | None = None
        self._is_leaving = False

    def analyze(self, kit: TokenizerSpec, batches: Sequence[Sequence[str]]) -> list[pa.RecordBatch]:
        """The columns of each batch."""
        with self._lock:
            if self._pool is None or self._kit != kit:
                self._end()
                _check(kit)
                self._pool, self._kit = TokenizerPool(_here(kit.tokenizer), kit.learned), kit
                self._is_leaving = False
            columns = list(self._pool.map(batches))
            if self._is_leaving:
                self._end()
            return columns

    def close(self) -> None:
        """Ends the tokenizer now or, rather than wait, when the shard is done that it is at."""
        self._is_leaving = True
        if self._lock.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._lock.release()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.__exit__()
        self._pool = self._kit = None


_ANALYST = _WorkerTokenizer()


def _here(tokenizer: TokenizerConfig) -> TokenizerConfig:
    """The settings for this very worker."""
    from distributed import get_worker

    worker = get_worker()
    limit = worker.memory_manager.memory_limit
    return fit_to_memory(tokenizer, worker.state.nthreads, None if limit is None else limit >> 20)


def _check(kit: TokenizerSpec) -> None:
    try:
        mine = versions(kit.tokenizer)
    except TokenizerError as error:
        raise ClusterError(f"the worker on {platform.node()}: {error}") from error
    odd = [f"{name} {mine[name]}, not {v}" for name, v in kit.versions.items() if mine[name] != v]
    if odd:
        raise ClusterError(
            f"the worker on {platform.node()} has {'; '.join(odd)}: its tokens or files could "
            "differ; install the same versions there"
        )
