"""Station two: lines of a corpus -> token shards, through a pool of tokenizers, with progress.

What a slow tokenizer has done is kept batch by batch (``korlm.dataset.journal``), so that work
which is broken off, however rudely, loses the few batches in flight. Light ones make their shard
anew.
"""

from __future__ import annotations

import collections
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from korlm.config import ClusterConfig, CorpusConfig, TokenizerConfig, Unicode, WorkerConfig
from korlm.config.objective import SPLITS
from korlm.corpus.normalization import INVISIBLE, has_text, normalize_all
from korlm.corpus.notes import Notes
from korlm.corpus.reader import read_corpus
from korlm.corpus.sources import Source
from korlm.corpus.splits import BlockSplit
from korlm.dataset.journal import Journal
from korlm.dataset.shards import ShardWriter, shard_path
from korlm.dataset.text_batches import Batch, Batcher
from korlm.tokenizers.registry import tokenizer_version, train_tokenizer
from korlm.tokenizers.workers.line_cache import LineCache, map_cached
from korlm.tokenizers.workers.pool import Task, TokenizerPool
from korlm.utils.errors import CorpusError, require_extra
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.progress import ProgressBar, progress_bar

logger = logging.getLogger(__name__)


MANY = 100  # documents; more are not counted


TOKENIZER_MODEL_FILE = (
    "sentencepiece.model"  # what a tokenizer learned from train, beside the tokens
)


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
            with require_extra("distributed", "dask-jobqueue"):
                from korlm.dataset.cluster.client import ClusterClient
                from korlm.dataset.cluster.scheduler import tokenize_on
            # Before the text is read: whether it is there shows at once.
            crew = stack.enter_context(ClusterClient(cluster, tokenizer, folder.with_name("slurm")))
        total, blocks = validate_corpus(corpus, sources)
        learned = _learn(corpus, tokenizer, sources, blocks, folder.with_name(TOKENIZER_MODEL_FILE))
        folder.mkdir(parents=True, exist_ok=True)

        def batches() -> Iterator[Batch]:
            return Batcher(corpus.unicode).batches(read_corpus(corpus, sources, blocks=blocks))

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
                columns = work.read_journal(batch)
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
    corpus: CorpusConfig,
    tokenizer: TokenizerConfig,
    sources: list[Source],
    blocks: BlockSplit | None,
    path: Path,
) -> bytes | None:
    """What the tokenizer learns from train, or learned when this work was begun."""
    if path.exists():
        return path.read_bytes()
    train = (
        text
        for lines in read_corpus(corpus, sources, blocks=blocks)
        if lines.split == "train"
        for text in normalize_all(lines.texts, corpus.unicode)
    )
    learned = train_tokenizer(tokenizer, train)
    if learned is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
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
    if isinstance(tokenizer, WorkerConfig) and tokenizer.cache_size_mb > 0:
        with LineCache(folder, tokenizer_version(tokenizer), tokenizer.cache_size_mb) as cache:
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

    def read_journal(self, batch: Batch) -> pa.RecordBatch | None:
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


def validate_corpus(corpus: CorpusConfig, sources: list[Source]) -> tuple[int, BlockSplit | None]:
    """Reads a corpus once before anything slow begins: bad text shows now, and so do empty splits.

    What is remarkable about the text is logged.

    Returns:
        The number of characters, line ends included; and the blocks that split the text if its
        documents are too few to do so.
    """
    notes, invisible = Notes(), _Invisible()
    chars = num_chars = num_lines = 0  # of all lines; of those with text that are to be split
    filled: set[str] = set()
    documents: set[int] = set()
    for source in sources:
        for lines in read_corpus(corpus, [source], notes):
            chars += sum(map(len, lines.texts)) + len(lines.texts)
            if lines.split not in filled and any(map(has_text, lines.texts)):
                filled.add(lines.split)
            if source.split is None:
                sizes = [len(text) + 1 for text in lines.texts if has_text(text)]
                num_chars, num_lines = num_chars + sum(sizes), num_lines + len(sizes)
                if len(documents) < MANY:
                    documents.add(hash(lines.doc_id))
            joined = "\n".join(lines.texts)
            if "\r" in joined:
                told = "carriage returns within lines, read as blanks"
                notes.add(told, lines.doc_id, joined.count("\r"))
            invisible.count(joined, lines.doc_id)
    for line in notes.lines() + invisible.lines(corpus.unicode):
        logger.warning("corpus: %s", line)
    missing = [split for split in _needed(corpus) if split not in filled]
    if not missing:
        return chars, None
    blocks = _blocks(corpus, num_chars, num_lines)
    few = f"{len(documents)} document{'s' * (len(documents) != 1)}"
    if not num_lines or not set(missing) <= set(blocks.shares):
        raise CorpusError(
            f"no text for {missing[0]}: no file is named for it, and corpus.valid_fraction="
            f"{corpus.valid_fraction} and corpus.test_fraction={corpus.test_fraction} of "
            f"corpus.files leave it none; name its files with corpus.{missing[0]}=[...]"
        )
    names = " and ".join([", ".join(list(blocks.shares)[:-1]), list(blocks.shares)[-1]])
    if num_lines < len(blocks.shares):
        raise CorpusError(
            f"no text for {missing[0]}: {few} with {num_lines} line{'s' * (num_lines != 1)} of "
            f"text cannot fill {names}; give more text, shorter lines, or files for each with "
            f"corpus.{missing[0]}=[...]"
        )
    shares = ", ".join(f"{split} {share:.0%}" for split, share in blocks.shares.items())
    logger.warning(
        "corpus.files: %s cannot fill %s, so contiguous blocks of lines do: %s of the text, in "
        "this order",
        *(few if len(documents) < MANY else "the documents", names, shares),
    )
    return chars, blocks


def _needed(corpus: CorpusConfig) -> list[str]:
    """The splits that must hold text."""
    has_test = bool(corpus.files) and corpus.test_fraction > 0 and not corpus.test
    return list(SPLITS) if has_test else ["train", "valid"]


def _blocks(corpus: CorpusConfig, num_chars: int, num_lines: int) -> BlockSplit:
    """Blocks for train and for the splits that have a share and no files of their own."""
    wanted = {
        "valid": (corpus.valid_fraction, corpus.valid),
        "test": (corpus.test_fraction, corpus.test),
    }
    shares = {split: share for split, (share, own) in wanted.items() if share > 0 and not own}
    return BlockSplit({"train": 1 - sum(shares.values())} | shares, num_chars, num_lines)


class _Invisible:
    """Counts the invisible characters of a corpus."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first = ""

    def count(self, text: str, where: str) -> None:
        """Counts those of some lines."""
        if not text.isascii() and INVISIBLE.search(text):
            self._counts.update(INVISIBLE.findall(text))
            self._first = self._first or where

    def lines(self, unicode: Unicode) -> list[str]:
        """One line on all of them, if there are any."""
        if not self._counts:
            return []
        kinds = [f"U+{ord(char):04X} {n:,}" for char, n in self._counts.most_common(5)]
        more = ", ..." * (len(self._counts) > 5)
        done = (
            "kept in the tokens (corpus.unicode=nfc leaves them out)"
            if unicode is Unicode.none
            else "left out of the tokens (corpus.unicode=none keeps them)"
        )
        told = f"invisible characters, {done}: {self._counts.total():,}"
        return [f"{told}, {', '.join(kinds)}{more} (first in {self._first})"]
