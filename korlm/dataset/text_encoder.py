"""Encode text with the tokenizer and the vocabulary of a trained model.

``TextEncoder`` encodes any text, ``read_prepared`` reads a split of a prepared corpus; both return
the same ``EncodedText``.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from korlm.config import TokenizerConfig, UnicodeForm
from korlm.corpus.normalization import normalize_all
from korlm.corpus.records import LineBlock
from korlm.dataset.numericalize import encode_morphs, insert_eos, line_lengths
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.storage.piece_writer import NO_COLUMNS, to_table
from korlm.dataset.storage.shards import SCHEMA, non_blank_mask, read_columns, shard_paths
from korlm.dataset.text_batches import TextBatch, batch_lines
from korlm.dataset.vocab import EOS_ID, Vocab
from korlm.text.eojeol import count_units
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.errors import CorpusError


@dataclass(frozen=True)
class EncodedText:
    """Consecutive lines with N tokens in total, <eos> after each line that is not blank.

    The values of a blank line, which has no tokens, are 0.
    """

    table: pa.Table  # a row of ``shards.SCHEMA`` for each line, and perhaps further columns
    ids: npt.NDArray[np.int64]  # (N,)
    # (N,), cost of spelling each lossy token, one that its id does not determine; else 0.
    spelling_nats: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]  # (lines,), tokens, <eos> included
    num_eojeol: npt.NDArray[np.int64]  # (lines,), units between blanks
    num_chars: npt.NDArray[np.int64]  # (lines,), of the normalized line and its end
    unicode: UnicodeForm = UnicodeForm.nfc  # normalization of the lines

    @classmethod
    def from_table(
        cls,
        table: pa.Table,
        vocab: Vocab,
        spelling: CharNgramModel,
        unicode: UnicodeForm = UnicodeForm.nfc,
    ) -> EncodedText:
        """Encode tokenized lines, a table with the columns of ``shards.SCHEMA``."""
        table = table.combine_chunks()
        # A column without rows has no chunks.
        columns = [table.column(name) for name in ("morphs", "status", "text")]
        morphs, status, text = (
            c.chunk(0) if c.num_chunks else pa.array([], c.type) for c in columns
        )
        tokens, indices, token_ids, lossless = encode_morphs(morphs, vocab)
        costs = np.zeros(len(tokens))
        lossy = np.flatnonzero(~lossless)
        costs[lossy] = spelling.nats([tokens[index] for index in lossy])
        non_blank = non_blank_mask(status)
        lengths = np.zeros(len(table), dtype=np.int64)
        lengths[non_blank] = non_blank_lengths = line_lengths(morphs, status)
        texts = normalize_all(text.to_pylist(), unicode)
        num_chars = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
        return cls(
            table,
            insert_eos(token_ids[indices], non_blank_lengths, EOS_ID),
            insert_eos(costs[indices], non_blank_lengths, 0.0),
            lengths,
            np.where(non_blank, count_units(texts), 0) if texts else lengths,
            np.where(non_blank, num_chars, 0),
            unicode,
        )

    def status_counts(self) -> Counter[str]:
        """Return the number of lines of each tokenizer status."""
        counts = pc.value_counts(self.table.column("status")).to_pylist()
        return Counter({count["values"]: count["counts"] for count in counts})

    def with_blank_lines(
        self,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return ids, spelling_nats and lengths with an <eos> for each blank line as well."""
        starts = (np.cumsum(self.lengths) - self.lengths)[self.lengths == 0]
        ids = np.insert(self.ids, starts, EOS_ID)
        return ids, np.insert(self.spelling_nats, starts, 0.0), np.maximum(self.lengths, 1)

    def lines(self) -> list[npt.NDArray[np.int64]]:
        """Return the ids of each line, its <eos> included; none for a blank line."""
        ends = np.cumsum(self.lengths)
        bounds = zip(ends - self.lengths, ends, strict=True)
        return [self.ids[begin:end] for begin, end in bounds]

    @classmethod
    def concatenate(cls, parts: Sequence[EncodedText]) -> EncodedText:
        """Concatenate texts of the same normalization."""
        names = [field.name for field in dataclasses.fields(cls)][1:-1]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        table = pa.concat_tables([part.table for part in parts]).combine_chunks()
        return cls(table, **arrays, unicode=parts[0].unicode)


class TextEncoder:
    """Tokenizes and encodes any text as the training text was; a context manager.

    The tokenizer starts with the first text (Kkma: about 1 s) and runs until ``close``, the exit or
    the end of the object; another text starts it again. Threads may share an encoder; it serves one
    of them at a time.
    """

    def __init__(
        self,
        tokenizer: TokenizerConfig,
        vocab: Vocab,
        spelling: CharNgramModel,
        tokenizer_model: bytes | None = None,
        unicode: UnicodeForm = UnicodeForm.nfc,
    ) -> None:
        self._unicode = unicode
        self._vocab, self._spelling = vocab, spelling
        self._tokenizer = tokenizer, tokenizer_model
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._opened: TokenizerPool | None = None

    def __enter__(self) -> TextEncoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the tokenizer."""
        if self._opened is not None:
            _close(self._opened, self._pid)

    @property
    def _pool(self) -> TokenizerPool:
        """Return the tokenizer, opened at the first access.

        Raises:
            TokenizerError: a package of the tokenizer is missing, or its model is damaged.
        """
        with self._lock:
            if self._opened is None:
                self._opened = TokenizerPool(*self._tokenizer)
                weakref.finalize(self, _close, self._opened, self._pid)
            return self._opened

    def read(
        self, lines: Iterable[LineBlock], columns: Mapping[str, str] = NO_COLUMNS
    ) -> Iterator[EncodedText]:
        """Encode lines of one split, about 16 thousand characters at a time.

        ``columns``: further columns of the tables -> the columns of ``LineBlock.columns``.

        Raises:
            TokenizerError: the tokenizer does not start.
        """
        pending: collections.deque[TextBatch] = collections.deque()

        def texts() -> Iterator[list[str]]:
            for batch in batch_lines(lines, self._unicode):
                pending.append(batch)
                yield batch.normalized

        for analyses in self._pool.map(texts()):
            yield self._encode(pending.popleft(), analyses, columns)

    def read_texts(self, texts: str | Sequence[str], doc_id: str = "") -> EncodedText:
        """Encode a few lines at once, as one document; a str is a single line.

        Raises:
            CorpusError: one of them is not a string, or contains a lone surrogate.
            TokenizerError: the tokenizer does not start.
        """
        blocks = [LineBlock("text", doc_id, 1, checked_texts(texts))]
        batch = TextBatch("text", blocks, self._unicode)
        (analyses,) = self._pool.map([batch.normalized])
        return self._encode(batch, analyses)

    def _encode(
        self,
        batch: TextBatch,
        analyses: pa.RecordBatch,
        columns: Mapping[str, str] = NO_COLUMNS,
    ) -> EncodedText:
        table = to_table([batch], [analyses], columns)
        return EncodedText.from_table(table, self._vocab, self._spelling, self._unicode)


def _close(pool: TokenizerPool, pid: int) -> None:
    """Stop a tokenizer, but not in a forked process, whose parent uses it."""
    if pid == os.getpid():
        pool.__exit__()


def checked_texts(texts: object) -> list[str]:
    """Return the texts that a caller in Python gives; a str is a single text.

    Raises:
        CorpusError: one of them is not a string, or contains a lone surrogate.
    """
    if isinstance(texts, bytes | Mapping) or not isinstance(texts, Iterable):
        raise CorpusError(f"texts is {texts!r:.80}: give a str, or a list of them")
    checked = [texts] if isinstance(texts, str) else list(texts)
    for number, text in enumerate(checked, 1):
        if not isinstance(text, str):
            raise CorpusError(f"text {number} is {text!r:.80}: give a str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise CorpusError(
                f"text {number} has a lone surrogate (U+{ord(text[error.start]):04X}) as character "
                f"{error.start + 1}, which UTF-8 cannot encode; decode the text again, with "
                "errors='replace' if necessary"
            ) from None
    return checked


def read_prepared(
    folder: Path,
    split: str,
    vocab: Vocab,
    spelling: CharNgramModel,
    unicode: UnicodeForm = UnicodeForm.nfc,
) -> Iterator[EncodedText]:
    """Read the lines of a split of a prepared corpus, one row group at a time."""
    for path in shard_paths(folder / "tokens", split):
        for batch in read_columns(path, SCHEMA.names):
            yield EncodedText.from_table(pa.Table.from_batches([batch]), vocab, spelling, unicode)
