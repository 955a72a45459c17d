"""Task of a cluster worker: make the Parquet file of a shard from its text.

A worker keeps its tokenizer (and thereby the JVM) while tasks need the same one. It returns the
bytes of the file and the client writes them, so that no shared disk is needed and a worker may die
at any time.
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
from korlm.config import JavaConfig, TokenizerConfig, UnicodeForm, WorkerConfig
from korlm.corpus.lines import LineBlock
from korlm.dataset.statistics.tokenization_report import shard_report_path
from korlm.dataset.storage.shard_writer import ShardWriter
from korlm.dataset.storage.shards import shard_path
from korlm.dataset.text_batches import TextBatch
from korlm.tokenizers.jvm import roomy_heap
from korlm.tokenizers.registry import tokenizer_version
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.errors import ClusterError, TokenizerError

MEMORY_BESIDE_HEAP = 1024  # MB of a worker outside the heap of its JVM; Python takes about 200
MIN_HEAP = 512  # MB


@dataclass(frozen=True)
class TokenizerSpec:
    """Tokenizer that a worker has to run.

    Attributes:
        tokenizer: its settings.
        tokenizer_model: its model, if it is a trained one.
        versions: of the packages of the client, which the worker must have too.
    """

    tokenizer: TokenizerConfig
    tokenizer_model: bytes | None
    versions: dict[str, str]


@dataclass(frozen=True)
class ShardText:
    """All lines of a shard, packed into few objects because they pass through two processes.

    Attributes:
        split: name of the split.
        number: of the shard.
        blocks: JSON: for each batch a list of [doc_id, number of first line, number of lines].
        lengths: int32, characters of each line.
        text: all lines in UTF-8.
        unicode: normalization of the corpus.
    """

    split: str
    number: int
    blocks: str
    lengths: bytes
    text: bytes
    unicode: UnicodeForm = UnicodeForm.nfc

    @classmethod
    def pack(cls, batches: Sequence[TextBatch]) -> ShardText:
        """Pack the batches of one shard."""
        blocks = [[(b.doc_id, b.first, len(b.texts)) for b in batch.blocks] for batch in batches]
        texts = [text for batch in batches for text in batch.texts]
        lengths = np.fromiter(map(len, texts), np.int32, len(texts)).tobytes()
        data = "".join(texts).encode("utf-8", "surrogatepass")
        first = batches[0]
        return cls(first.split, first.shard, json.dumps(blocks), lengths, data, first.unicode)

    def unpack(self) -> list[TextBatch]:
        """Return the batches."""
        text = self.text.decode("utf-8", "surrogatepass")
        ends = np.cumsum(np.frombuffer(self.lengths, np.int32), dtype=np.int64).tolist()
        texts = [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        batches, begin = [], 0
        packed = json.loads(self.blocks)
        for number, rows in enumerate(packed, 1):
            blocks = []
            for doc_id, first, count in rows:
                blocks.append(LineBlock(self.split, doc_id, first, texts[begin : begin + count]))
                begin += count
            is_last = number == len(packed)
            batches.append(TextBatch(self.split, self.number, is_last, blocks, self.unicode))
        return batches


@dataclass(frozen=True)
class ShardResult:
    """Contents of the Parquet file of a shard, and of its report file if it has one."""

    parquet: bytes
    report: bytes | None


def versions(tokenizer: TokenizerConfig, tokenizer_model: bytes | None = None) -> dict[str, str]:
    """Return the versions that two machines must share to make the same bytes.

    Raises:
        TokenizerError: a package that the tokenizer needs is not installed.
    """
    return {
        "korlm": __version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),  # decides the version of Unicode
        "pyarrow": pa.__version__,
        tokenizer.name: tokenizer_version(tokenizer, tokenizer_model),
    }


def make_shard(spec: TokenizerSpec, shard: ShardText) -> ShardResult:
    """Tokenize a shard; a worker makes one at a time.

    Raises:
        ClusterError: the worker has other versions than the client.
        TokenizerError: the tokenizer does not start, or dies repeatedly.
    """
    batches = shard.unpack()
    columns = _TOKENIZER.analyze(spec, [batch.normalized for batch in batches])
    with TemporaryDirectory(prefix="korlm-") as folder:
        with ShardWriter(Path(folder)) as writer:
            for batch, analyses in zip(batches, columns, strict=True):
                writer.write(batch, analyses)
        path = shard_path(Path(folder), shard.split, shard.number)
        report = shard_report_path(path)
        return ShardResult(path.read_bytes(), report.read_bytes() if report.exists() else None)


def dask_setup(worker: object) -> None:
    """Ignore SIGINT in a local worker; Dask calls this where the module is preloaded.

    Ctrl-C in a terminal reaches the workers too; the client stops them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def release() -> None:
    """Stop the tokenizer of this worker; the worker keeps running."""
    _TOKENIZER.close()


def fit_to_memory(tokenizer: TokenizerConfig, threads: int, memory: int | None) -> TokenizerConfig:
    """Return the settings of the tokenizer for one worker: one child process, a heap that fits.

    Args:
        tokenizer: settings of the corpus; numbers of threads and heap that are set are kept.
        threads: of the worker.
        memory: of the worker, in MB; None: unlimited.

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
    """Tokenizer of this worker process, kept between shards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spec: TokenizerSpec | None = None
        self._pool: TokenizerPool | None = None
        self._is_closing = False

    def analyze(
        self, spec: TokenizerSpec, batches: Sequence[Sequence[str]]
    ) -> list[pa.RecordBatch]:
        """Return the analyses of each batch."""
        with self._lock:
            if self._pool is None or self._spec != spec:
                self._stop()
                _check_versions(spec)
                config = _fit_to_worker(spec.tokenizer)
                self._pool, self._spec = TokenizerPool(config, spec.tokenizer_model), spec
                self._is_closing = False
            columns = list(self._pool.map(batches))
            if self._is_closing:
                self._stop()
            return columns

    def close(self) -> None:
        """Stop the tokenizer: now, or after the shard that it works on, without waiting."""
        self._is_closing = True
        if self._lock.acquire(blocking=False):
            try:
                self._stop()
            finally:
                self._lock.release()

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.__exit__()
        self._pool = self._spec = None


_TOKENIZER = _WorkerTokenizer()


def _fit_to_worker(tokenizer: TokenizerConfig) -> TokenizerConfig:
    from distributed import get_worker

    worker = get_worker()
    limit = worker.memory_manager.memory_limit
    return fit_to_memory(tokenizer, worker.state.nthreads, None if limit is None else limit >> 20)


def _check_versions(spec: TokenizerSpec) -> None:
    try:
        own = versions(spec.tokenizer, spec.tokenizer_model)
    except TokenizerError as error:
        raise ClusterError(f"the worker on {platform.node()}: {error}") from error
    other = [f"{name} {own[name]}, not {v}" for name, v in spec.versions.items() if own[name] != v]
    if other:
        raise ClusterError(
            f"the worker on {platform.node()} has {'; '.join(other)}: its tokens or files could "
            "differ; install the same versions there"
        )
