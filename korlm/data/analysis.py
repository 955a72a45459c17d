"""Station two: lines of a corpus -> token shards, through a pool of tokenizers, with progress.

What a slow tokenizer has done is kept batch by batch (``korlm.data.journal``), so that work which
is broken off, however rudely, loses the few batches in flight. Light ones make their shard anew.
"""

from __future__ import annotations

import collections
import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from korlm.config import (
    ClusterConfig,
    CorpusConfig,
    Document,
    Layout,
    TokenizerConfig,
    WorkerConfig,
)
from korlm.data.cache import LineCache
from korlm.data.cached import map_cached
from korlm.data.corpus import Source, is_blank, normalize_all, read_corpus
from korlm.data.journal import Journal
from korlm.data.pool import Task, TokenizerPool
from korlm.data.progress import ProgressBar, progress_bar
from korlm.data.registry import learn, tokenizer_version
from korlm.data.shards import Batch, Batcher, ShardWriter, shard_path
from korlm.data.text_files import layout_of
from korlm.errors import CorpusError, optional
from korlm.whole_files import replacing

logger = logging.getLogger(__name__)

LEARNED = "sentencepiece.model"  # what a tokenizer learned from train, beside the tokens


def tokenize_corpus(
    corpus: CorpusConfig,
    tokenizer: TokenizerConfig,
    sources: list[Source],
    folder: Path,
    cache: Path,
    progress: bool,
    cluster: ClusterConfig | None = None,
) -> None:
    """Writes the shards that are not there yet; a failure leaves whole shards and journals behind.

    Args:
        corpus: how the files are to be read.
        tokenizer: what makes tokens of them.
        sources: the files.
        folder: of the shards; what the tokenizer has to learn first is written beside it.
        cache: folder of what slow tokenizers made of single lines.
        progress: whether to draw a bar over characters when stderr is a terminal.
        cluster: who tokenizes; None: this machine.

    Raises:
        CorpusError: text that cannot be read, or a split without text; before anything slow begins.
        TokenizerError: the tokenizer does not start.
        ClusterError: the cluster is not there, or some shards could not be made by it.
    """
    with contextlib.ExitStack() as stack:
        crew = None
        if cluster is not None and cluster.cluster is not None:
            with optional("distributed", "dask-jobqueue"):
                from korlm.data.cluster import Crew
                from korlm.data.distribute import tokenize_on
            # Before the text is read: whether it is there shows at once.
            crew = stack.enter_context(Crew(cluster, tokenizer, folder.with_name("slurm")))
        total = _scan(corpus, sources)
        learned = _learn(corpus, tokenizer, sources, folder.with_name(LEARNED))
        folder.mkdir(parents=True, exist_ok=True)

        def batches() -> Iterator[Batch]:
            return Batcher().batches(read_corpus(corpus, sources))

        logger.info("tokenizing %s characters with %s", f"{total:,}", tokenizer.name)
        bar = stack.enter_context(progress_bar(total, f"tokenizing ({tokenizer.name})", progress))
        if crew is None:
            _tokenize_here(tokenizer, learned, batches(), folder, cache, bar)
        else:
            tokenize_on(crew, learned, batches, folder, bar)


def _tokenize_here(
    tokenizer: TokenizerConfig,
    learned: bytes | None,
    batches: Iterator[Batch],
    folder: Path,
    cache: Path,
    bar: ProgressBar,
) -> None:
    """Writes the shards by way of this machine's pool."""
    with TokenizerPool(tokenizer, learned) as pool, _Work(folder, not pool.is_light) as work:
        # Batches on their way through the pool, and whether an earlier run did them.
        waiting: collections.deque[tuple[Batch, bool]] = collections.deque()

        def tasks() -> Iterator[Task]:
            for batch in batches:
                if work.is_done(batch):
                    bar.skip(batch.num_chars)
                    continue
                columns = work.recall(batch)
                waiting.append((batch, columns is not None))
                yield batch.normal if columns is None else columns

        for columns in _map(pool, tokenizer, cache, tasks(), bar):
            batch, recalled = waiting.popleft()
            if recalled:
                bar.skip(batch.num_chars)
            else:
                work.keep(batch, columns)
                bar.update(batch.num_chars)
            work.write(batch, columns)
        work.finish()


def _learn(
    corpus: CorpusConfig, tokenizer: TokenizerConfig, sources: list[Source], path: Path
) -> bytes | None:
    """What the tokenizer learns from train, or learned when this work was begun."""
    if path.exists():
        return path.read_bytes()
    train = (
        text
        for lines in read_corpus(corpus, sources)
        if lines.split == "train"
        for text in normalize_all(lines.texts)
    )
    learned = learn(tokenizer, train)
    if learned is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(learned)
    return learned


def _map(
    pool: TokenizerPool,
    tokenizer: TokenizerConfig,
    folder: Path,
    batches: Iterator[Task],
    bar: ProgressBar,
) -> Iterator[pa.RecordBatch]:
    """The pool's results, by way of the cache of lines where one is wanted."""
    if isinstance(tokenizer, WorkerConfig) and tokenizer.cache_mb > 0:
        with LineCache(folder, tokenizer_version(tokenizer), tokenizer.cache_mb) as cache:
            yield from map_cached(pool, cache, batches)
            bar.clear()
            known, new = f"{cache.hits:,}", f"{cache.misses:,}"
            logger.info("lines: %s known from before, %s new to %s", known, new, tokenizer.name)
    else:
        yield from pool.map(batches)


class _Work:
    """The shards that are not whole yet: a writer for each split; journals if the work is slow."""

    def __init__(self, folder: Path, is_slow: bool) -> None:
        self._folder = folder
        self._is_slow = is_slow
        self._done = set(folder.glob("*.parquet"))
        for shard in self._done:  # it was killed between the shard's name and the journal's end
            _journal_path(shard).unlink(missing_ok=True)
        self._thread = ThreadPoolExecutor(1)
        self._writers: dict[str, ShardWriter] = {}
        self._journals: dict[Path, Journal] = {}

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, *error: object) -> None:
        for writer in self._writers.values():
            writer.close()
        for journal in self._journals.values():
            journal.close()
        self._thread.shutdown()

    def _shard(self, batch: Batch) -> Path:
        return shard_path(self._folder, batch.split, batch.shard)

    def is_done(self, batch: Batch) -> bool:
        """Whether the shard of a batch is there."""
        return self._shard(batch) in self._done

    def recall(self, batch: Batch) -> pa.RecordBatch | None:
        """What an earlier run made of a batch, if its journal knows."""
        if not self._is_slow:
            return None
        shard = self._shard(batch)
        if shard not in self._journals:
            self._journals[shard] = Journal(_journal_path(shard))
        return self._journals[shard].read(batch.texts)

    def keep(self, batch: Batch, columns: pa.RecordBatch) -> None:
        """Writes a batch to its journal."""
        if self._is_slow:
            self._journals[self._shard(batch)].append(batch.texts, columns)

    def write(self, batch: Batch, columns: pa.RecordBatch) -> None:
        """Writes a batch to its shard."""
        if batch.split not in self._writers:
            self._writers[batch.split] = ShardWriter(self._folder, self._thread)
        self._writers[batch.split].write(batch, columns)
        if batch.last and self._is_slow:
            self._writers[batch.split].wait()  # until the shard is whole
            self._journals.pop(self._shard(batch)).close(delete=True)

    def finish(self) -> None:
        """Until all is written; raises what went wrong with it."""
        for writer in self._writers.values():
            writer.wait()


def _journal_path(shard: Path) -> Path:
    return shard.with_suffix(".journal")


def _scan(corpus: CorpusConfig, sources: list[Source]) -> int:
    """Reads a corpus once before anything slow begins: bad text shows now, and so do empty splits.

    Returns:
        The number of characters, line ends included.
    """
    chars = 0
    filled: set[str] = set()
    documents: set[int] = set()
    for lines in read_corpus(corpus, sources):
        chars += sum(map(len, lines.texts)) + len(lines.texts)
        if lines.split not in filled and not all(map(is_blank, lines.texts)):
            filled.add(lines.split)
        if len(documents) < 100:
            documents.add(hash(lines.doc_id))
    needed = ["train", "valid"]
    if corpus.files and corpus.test_share > 0 and not corpus.test:
        needed.append("test")
    for split in needed:
        if split not in filled:
            few = f"{len(documents)} document{'s' * (len(documents) != 1)}"
            texts = [layout_of(s.path, corpus.layout) is Layout.txt for s in sources]
            large = corpus.document is Document.file and corpus.files and any(texts)
            raise CorpusError(
                f"no text for {split}: none of {few if len(documents) < 100 else 'the documents'} "
                f"fell to it (corpus.valid_share={corpus.valid_share}, corpus.test_share="
                f"{corpus.test_share}); name its files with corpus.{split}=[...]"
                + (", or make smaller documents with corpus.document=blank_line" * bool(large))
            )
    return chars
