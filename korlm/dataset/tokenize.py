"""Tokenize a piece of a corpus: read its lines, run the tokenizer, write its files.

The tokens of a piece depend on its text and the settings alone; its report also has the seconds of
slow lines. A piece is made only once: after an interruption, finished pieces are kept and the
others are started again. In one process, lines that a slow tokenizer has already analyzed come from
the line cache.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from korlm.config import CorpusConfig, HuggingFaceConfig, TokenizerConfig, WorkerConfig
from korlm.corpus.normalization import normalize_all
from korlm.corpus.pieces import Piece, PieceStart
from korlm.corpus.reader import read_piece
from korlm.corpus.records import LineBlock
from korlm.corpus.splits import ContiguousSplit
from korlm.dataset.fingerprint import hash_json, piece_settings, to_json_values
from korlm.dataset.storage.piece_files import PieceRecord
from korlm.dataset.storage.piece_writer import PieceWriter
from korlm.dataset.storage.shards import LABEL, SCHEMA
from korlm.dataset.text_batches import TextBatch, batch_lines
from korlm.tokenizers.registry import train_tokenizer
from korlm.utils.errors import CorpusError
from korlm.utils.io.atomic_files import atomic_write

# Names of the tokenizer model in the folder of the pieces: of SentencePiece, Kkma (its user
# dictionary), and a tokenizer that is given as a file.
TOKENIZER_MODEL_FILES = ("sentencepiece.model", "user_dictionary.dic", "tokenizer.json")

# Batches of lines -> their analyses, in order.
Analyze: TypeAlias = Callable[[Iterator[list[str]]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class TokenizeSettings:
    """Settings of tokenizing, the same for all pieces."""

    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    blocks: ContiguousSplit | None  # None: documents are split by a hash
    folder: Path  # of the files of the pieces and of the tokenizer model
    token_key: dict[str, Any]  # the settings that decide the tokens (``token_settings``)


@dataclass(frozen=True)
class PieceText:
    """A piece that has been scanned, what lies before it, the hash of its bytes, and its size."""

    piece: Piece
    start: PieceStart
    digest: str
    num_chars: int

    def __str__(self) -> str:
        """Return the files of the piece, for messages."""
        return str(self.piece)

    def lines(self, settings: TokenizeSettings) -> Iterator[LineBlock]:
        """Return the lines of the piece, read from its files; see ``read_piece``."""
        return read_piece(settings.corpus, self.piece, self.start, settings.blocks, self.digest)

    def key(self, settings: TokenizeSettings) -> str:
        """Return a hash of everything that the files of the piece depend on."""
        key = [settings.token_key, piece_settings(self.piece, self.digest)]
        blocks = settings.blocks and to_json_values(settings.blocks)
        return hash_json([*key, to_json_values(self.start), blocks])


def tokenize_piece(
    settings: TokenizeSettings,
    text: PieceText,
    analyze: Analyze,
    on_progress: Callable[[int], object] = lambda _: None,
) -> PieceRecord:
    """Tokenize a piece, write its files and return their record.

    ``on_progress`` is called with the number of characters of each batch that is written.

    Raises:
        CorpusError: the text has changed since it was scanned.
    """
    corpus = settings.corpus
    pending: collections.deque[TextBatch] = collections.deque()

    def batches() -> Iterator[list[str]]:
        for batch in batch_lines(text.lines(settings), corpus.unicode):
            pending.append(batch)
            yield batch.normalized

    columns = source_columns(corpus)
    with PieceWriter(settings.folder, text.piece.number, columns) as writer:
        for analyses in analyze(batches()):
            batch = pending.popleft()
            writer.write(batch, analyses)
            on_progress(batch.num_chars)
        return writer.finish(text.key(settings))


def source_columns(corpus: CorpusConfig) -> dict[str, str]:
    """Return the columns of the shards beyond ``SCHEMA``: name -> column of the source.

    Raises:
        CorpusError: two columns have the same name.
    """
    columns = {LABEL: corpus.label_column} if corpus.label_column else {}
    for name in corpus.keep_columns:
        if name in SCHEMA.names or columns.get(name, name) != name:
            raise CorpusError(
                f"corpus.keep_columns: {name} is a column of the token files already; give it "
                "another name in the source"
            )
        columns[name] = name
    return columns


def train_model(settings: TokenizeSettings, texts: Iterable[PieceText]) -> bytes | None:
    """Return the tokenizer model in the folder of the pieces, or train and store one.

    It is trained on train. Kkma's user dictionary and a tokenizer that is given as a file are
    models, too. None: the tokenizer has no model.

    Raises:
        TokenizerError: the text is not enough, or the user dictionary cannot be read.
    """
    if (model := read_tokenizer_model(settings.folder, settings.tokenizer)) is not None:
        return model
    train = (
        line
        for text in texts
        for block in text.lines(settings)
        if block.split == "train"
        for line in normalize_all(block.texts, settings.corpus.unicode)
    )
    model = train_tokenizer(settings.tokenizer, train)
    if model is not None:
        write_tokenizer_model(settings.folder, settings.tokenizer, model)
    return model


def read_tokenizer_model(folder: Path, tokenizer: TokenizerConfig) -> bytes | None:
    """Return the tokenizer model in a folder, None if there is none."""
    path = _model_path(folder, tokenizer)
    return path.read_bytes() if path.exists() else None


def write_tokenizer_model(folder: Path, tokenizer: TokenizerConfig, model: bytes) -> None:
    """Write the tokenizer model into the folder of the pieces, for ``Executor.tokenize``."""
    with atomic_write(_model_path(folder, tokenizer), shared=True) as temporary:
        temporary.write_bytes(model)


def _model_path(folder: Path, tokenizer: TokenizerConfig) -> Path:
    sentencepiece, user_dictionary, given_file = TOKENIZER_MODEL_FILES
    if isinstance(tokenizer, HuggingFaceConfig):
        return folder / given_file
    return folder / (user_dictionary if isinstance(tokenizer, WorkerConfig) else sentencepiece)
