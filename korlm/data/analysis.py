"""Station two: lines of a corpus -> token shards, through a pool of tokenizers, with progress."""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from korlm.config import CorpusConfig, Document, Layout, TokenizerConfig
from korlm.data.corpus import Source, is_blank, normalize, read_corpus
from korlm.data.pool import TokenizerPool
from korlm.data.shards import Batch, Batcher, ShardWriter, shard_path
from korlm.data.text_files import layout_of
from korlm.errors import CorpusError

logger = logging.getLogger(__name__)


def tokenize_corpus(
    corpus: CorpusConfig,
    tokenizer: TokenizerConfig,
    sources: list[Source],
    folder: Path,
    progress: bool,
) -> None:
    """Writes the shards that are not there yet; a failure leaves only whole shards behind.

    Args:
        corpus: how the files are to be read.
        tokenizer: what makes tokens of them.
        sources: the files.
        folder: of the shards.
        progress: whether to draw a bar over characters when stderr is a terminal.

    Raises:
        CorpusError: text that cannot be read, or a split without text; before anything slow begins.
        TokenizerError: the tokenizer does not start.
    """
    total = _scan(corpus, sources)
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, ShardWriter] = {}
    bar = tqdm(
        total=total,
        desc=f"tokenizing ({tokenizer.name})",
        unit="char",
        unit_scale=True,
        disable=None if progress else True,
    )
    logger.info("tokenizing %s characters with %s", f"{total:,}", tokenizer.name)
    with bar, TokenizerPool(tokenizer) as pool:
        waiting: collections.deque[Batch] = collections.deque()

        def texts() -> Iterator[list[str]]:
            for batch in Batcher().batches(read_corpus(corpus, sources)):
                if shard_path(folder, batch.split, batch.shard).exists():
                    bar.update(batch.num_chars)
                    continue
                waiting.append(batch)
                yield [normalize(line.text) for line in batch.lines]

        try:
            for analyses in pool.map(texts()):
                batch = waiting.popleft()
                writers.setdefault(batch.split, ShardWriter(folder)).write(batch, analyses)
                bar.update(batch.num_chars)
        finally:
            for writer in writers.values():
                writer.close()


def _scan(corpus: CorpusConfig, sources: list[Source]) -> int:
    """Reads a corpus once before anything slow begins: bad text shows now, and so do empty splits.

    Returns:
        The number of characters, line ends included.
    """
    chars = 0
    filled: set[str] = set()
    documents: set[int] = set()
    for line in read_corpus(corpus, sources):
        chars += len(line.text) + 1
        if line.split not in filled and not is_blank(line.text):
            filled.add(line.split)
        if len(documents) < 100:
            documents.add(hash(line.doc_id))
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
