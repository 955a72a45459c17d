"""Tokenizes a corpus: reads its lines, runs the tokenizer, writes token shards.

A shard is written only once. After an interruption, finished shards are kept and the others are
started again from their first line; lines that a slow tokenizer has already analyzed come from the
line cache.
"""

from __future__ import annotations

import collections
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from korlm.config import ClusterConfig, CorpusConfig, TokenizerConfig, WorkerConfig
from korlm.corpus.normalization import normalize_all
from korlm.corpus.pieces import plan_pieces
from korlm.corpus.reader import read_corpus
from korlm.corpus.scan import scan_piece
from korlm.corpus.sources import Source
from korlm.corpus.splits import BlockSplit
from korlm.corpus.validation import validate_corpus
from korlm.dataset.storage.labels import FOLDER as LABELS
from korlm.dataset.storage.labels import write_labels
from korlm.dataset.storage.shard_writer import ShardWriter
from korlm.dataset.storage.shards import shard_path
from korlm.dataset.text_batches import TextBatch, batch_lines
from korlm.tokenizers.registry import tokenizer_version, train_tokenizer
from korlm.tokenizers.workers.line_cache import LineCache, map_cached
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.errors import require_extra
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.progress import ProgressBar, progress_bar

logger = logging.getLogger(__name__)

# The tokenizer model, beside the folder of the shards: of Kkma its user dictionary.
TOKENIZER_MODEL_FILES = ("sentencepiece.model", "user_dictionary.dic")


def tokenize_corpus(
    corpus: CorpusConfig,
    tokenizer: TokenizerConfig,
    sources: list[Source],
    folder: Path,
    cache: Path,
    progress: bool,
    cluster: ClusterConfig | None = None,
) -> None:
    """Write the shards of a corpus that do not exist yet.

    Args:
        corpus: settings of the text.
        tokenizer: settings of the tokenizer.
        sources: the files of the corpus.
        folder: of the shards; labels and a trained tokenizer model are written beside it.
        cache: folder of the line cache.
        progress: whether to show a progress bar.
        cluster: Dask workers to tokenize with; None: this machine. The shards are the same.

    Raises:
        CorpusError: the text cannot be read, or a split is empty; raised before the tokenizer runs.
        TokenizerError: the tokenizer does not start.
        ClusterError: the cluster cannot be reached, or could not make some shards.
    """
    with contextlib.ExitStack() as stack:
        client = None
        if cluster is not None and cluster.cluster is not None:
            with require_extra("distributed", "dask-jobqueue"):
                from korlm.dataset.cluster.client import ClusterClient
                from korlm.dataset.cluster.scheduler import tokenize_on
            # Connect before the text is read, so that a missing cluster is reported at once.
            client = stack.enter_context(
                ClusterClient(cluster, tokenizer, folder.with_name("slurm"))
            )
        pieces = plan_pieces(corpus, sources, 1 << 62)
        scans = [scan_piece(corpus, piece) for piece in pieces]
        num_chars, blocks = validate_corpus(corpus, pieces, scans)
        tokenizer_model = _tokenizer_model(corpus, tokenizer, sources, blocks, folder)
        folder.mkdir(parents=True, exist_ok=True)
        if corpus.label_column:
            write_labels(read_corpus(corpus, sources, blocks=blocks), folder.with_name(LABELS))

        def batches() -> Iterator[TextBatch]:
            return batch_lines(read_corpus(corpus, sources, blocks=blocks), corpus.unicode)

        logger.info("tokenizing %s characters with %s", f"{num_chars:,}", tokenizer.name)
        title = f"tokenizing ({tokenizer.name})"
        bar = stack.enter_context(progress_bar(num_chars, title, progress))
        if client is None:
            _tokenize_locally(tokenizer, tokenizer_model, batches(), folder, cache, bar)
        else:
            tokenize_on(client, tokenizer_model, batches, folder, bar)


def _tokenizer_model(
    corpus: CorpusConfig,
    tokenizer: TokenizerConfig,
    sources: list[Source],
    blocks: BlockSplit | None,
    folder: Path,
) -> bytes | None:
    """Return the tokenizer model beside the shards; if there is none, train one on train.

    None for a tokenizer that is not trained. The words of Kkma's user dictionary count as one.
    """
    path = _model_path(folder, tokenizer)
    if path.exists():
        return path.read_bytes()
    train = (
        text
        for block in read_corpus(corpus, sources, blocks=blocks)
        if block.split == "train"
        for text in normalize_all(block.texts, corpus.unicode)
    )
    tokenizer_model = train_tokenizer(tokenizer, train)
    if tokenizer_model is not None:
        write_tokenizer_model(folder, tokenizer, tokenizer_model)
    return tokenizer_model


def write_tokenizer_model(folder: Path, tokenizer: TokenizerConfig, model: bytes) -> None:
    """Write the model of a tokenizer, which ``tokenize_corpus`` then uses.

    Args:
        folder: of the shards.
        tokenizer: settings of the tokenizer.
        model: what ``train_tokenizer`` returned.
    """
    path = _model_path(folder, tokenizer)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(model)


def _model_path(folder: Path, tokenizer: TokenizerConfig) -> Path:
    trained, words = TOKENIZER_MODEL_FILES
    return folder.with_name(words if isinstance(tokenizer, WorkerConfig) else trained)


def _tokenize_locally(
    tokenizer: TokenizerConfig,
    tokenizer_model: bytes | None,
    batches: Iterator[TextBatch],
    folder: Path,
    cache: Path,
    bar: ProgressBar,
) -> None:
    finished = set(folder.glob("*.parquet"))
    in_progress: collections.deque[TextBatch] = collections.deque()

    def texts() -> Iterator[list[str]]:
        for batch in batches:
            if shard_path(folder, batch.split, batch.shard) in finished:
                bar.skip(batch.num_chars)
            else:
                in_progress.append(batch)
                yield batch.normalized

    with TokenizerPool(tokenizer, tokenizer_model) as pool, ShardWriter(folder) as writer:
        version = tokenizer_version(tokenizer, tokenizer_model)
        for columns in _analyze(pool, tokenizer, version, cache, texts(), bar):
            batch = in_progress.popleft()
            writer.write(batch, columns)
            bar.update(batch.num_chars)


def _analyze(
    pool: TokenizerPool,
    tokenizer: TokenizerConfig,
    version: str,
    folder: Path,
    texts: Iterator[list[str]],
    bar: ProgressBar,
) -> Iterator[pa.RecordBatch]:
    """Yield the analyses of each batch, from the line cache where it has them."""
    if not isinstance(tokenizer, WorkerConfig) or tokenizer.cache_size_mb == 0:
        yield from pool.map(texts)
        return
    with LineCache(folder, version, tokenizer.cache_size_mb) as cache:
        yield from map_cached(pool, cache, texts)
        bar.clear()
        hits, misses = f"{cache.hits:,}", f"{cache.misses:,}"
        logger.info("line cache: %s hits, %s misses (%s)", hits, misses, tokenizer.name)
