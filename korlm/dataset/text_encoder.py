"""Any text -> the ids that a trained model knows it by, a batch of lines at a time.

What a run was trained on comes out of token shards, everything else out of its tokenizer; both give
the same ``EncodedText``, so that whoever uses a model need not ask where a text came from.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from korlm.config import TokenizerConfig, Unicode
from korlm.corpus.lines import LineBlock
from korlm.corpus.normalization import normalize_all
from korlm.dataset.numericalize import encode_morphs, filled_lines, insert_eos, line_ends
from korlm.dataset.shards import SCHEMA, read_columns, shard_paths, table_of
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.text_batches import Batch, Batcher
from korlm.dataset.vocab import EOS_ID, Vocab
from korlm.text.eojeol import count_units
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.errors import CorpusError


@dataclass(frozen=True)
class EncodedText:
    """Some lines in their order, N tokens in all, <eos> behind each line that is not blank.

    Attributes:
        table: a row of ``korlm.dataset.shards.SCHEMA`` for each line, blank ones included: doc_id,
            line, text, morphs, tags, eojeol, status.
        ids: (N,).
        spelling_nats: (N,), what it costs to spell each token that its id does not give back; 0
            for the others.
        lengths: (lines,), tokens of each line, <eos> included; 0 of a blank one.
        num_eojeol: (lines,), units between blanks; 0 of a blank line.
        num_chars: (lines,), characters of the normalized line, one for the line end included; 0 of
            a blank line.
        unicode: normalization of the lines.
    """

    table: pa.Table
    ids: npt.NDArray[np.int64]
    spelling_nats: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    num_eojeol: npt.NDArray[np.int64]
    num_chars: npt.NDArray[np.int64]
    unicode: Unicode = Unicode.nfc

    @classmethod
    def of(
        cls,
        table: pa.Table,
        vocab: Vocab,
        spelling: CharNgramModel,
        unicode: Unicode = Unicode.nfc,
    ) -> EncodedText:
        """Lines that are analysed, as a vocabulary knows them.

        Args:
            table: with the columns of ``korlm.dataset.shards.SCHEMA``.
            vocab: gives the ids.
            spelling: tells what it costs to spell what ids do not give back.
            unicode: normalization that the lines were analysed in.
        """
        table = table.combine_chunks()
        # Of no rows there are no chunks.
        columns = [table.column(name) for name in ("morphs", "status", "text")]
        morphs, status, text = (
            c.chunk(0) if c.num_chunks else pa.array([], c.type) for c in columns
        )
        tokens, indices, token_ids, spelt = encode_morphs(morphs, vocab)
        costs = np.zeros(len(tokens))
        lossy_tokens = np.flatnonzero(~spelt)
        costs[lossy_tokens] = spelling.nats([tokens[at] for at in lossy_tokens])
        ends, filled = line_ends(morphs, status), filled_lines(status)
        lengths = np.zeros(len(table), dtype=np.int64)
        lengths[filled] = ends
        texts = normalize_all(text.to_pylist(), unicode)
        num_chars = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
        return cls(
            table,
            insert_eos(token_ids[indices], ends, EOS_ID),
            insert_eos(costs[indices], ends, 0.0),
            lengths,
            np.where(filled, count_units(texts), 0) if texts else lengths,
            np.where(filled, num_chars, 0),
            unicode,
        )

    @classmethod
    def joined(cls, readings: Sequence[EncodedText]) -> EncodedText:
        """Readings that follow each other as one."""
        tables = [reading.table for reading in readings]
        names = [field.name for field in dataclasses.fields(cls)][1:-1]
        parts = {name: [getattr(reading, name) for reading in readings] for name in names}
        arrays = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        table = pa.concat_tables(tables).combine_chunks()
        return cls(table, **arrays, unicode=readings[0].unicode)


class TextEncoder:
    """Reads any text with the tokenizer and the vocabulary of a run; a context manager.

    Kkma starts with the first line that is read (about 5 s) and stays until the end. Threads may
    share a reader, which serves one of them at a time.

    Args:
        tokenizer: of the run.
        vocab: of the run.
        spelling: of the run.
        learned: by its tokenizer, if it had to learn something.
        unicode: normalization of the run's own text.

    Raises:
        TokenizerError: a package of the tokenizer is missing, or what it learned is damaged.
    """

    def __init__(
        self,
        tokenizer: TokenizerConfig,
        vocab: Vocab,
        spelling: CharNgramModel,
        learned: bytes | None = None,
        unicode: Unicode = Unicode.nfc,
    ) -> None:
        self._unicode = unicode
        self._vocab, self._spelling = vocab, spelling
        self._pool = TokenizerPool(tokenizer, learned)

    def __enter__(self) -> TextEncoder:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.__exit__(*error)

    def read(self, lines: Iterable[LineBlock]) -> Iterator[EncodedText]:
        """Lines of documents, some 16 thousand characters at a time; memory does not grow.

        Args:
            lines: all of one split.

        Raises:
            TokenizerError: the tokenizer does not start.
        """
        waiting: collections.deque[Batch] = collections.deque()

        def texts() -> Iterator[list[str]]:
            for batch in Batcher(self._unicode).batches(iter(lines)):
                waiting.append(batch)
                yield batch.normal

        for columns in self._pool.map(texts()):
            yield self._reading(waiting.popleft(), columns)

    def read_texts(self, texts: Sequence[str], doc_id: str = "") -> EncodedText:
        """Read a few lines at once, as one document.

        Raises:
            CorpusError: one of them is no string, or holds half of a surrogate pair.
            TokenizerError: the tokenizer does not start.
        """
        for number, text in enumerate(texts, 1):
            _check_text(number, text)
        lines = [LineBlock("text", doc_id, 1, list(texts))]
        batch = Batch("text", 0, True, lines, self._unicode)
        (columns,) = self._pool.map([batch.normal])
        return self._reading(batch, columns)

    def _reading(self, batch: Batch, columns: pa.RecordBatch) -> EncodedText:
        table = table_of([batch], [columns])
        return EncodedText.of(table, self._vocab, self._spelling, self._unicode)


def _check_text(number: int, text: object) -> None:
    if not isinstance(text, str):
        raise CorpusError(f"text {number} is {text!r:.80}: give a str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"text {number} has a lone surrogate (U+{ord(text[error.start]):04X}) as character "
            f"{error.start + 1}, which is no character of Unicode; decode its bytes again, with "
            "errors='replace' if need be"
        ) from None


def read_prepared(
    folder: Path,
    split: str,
    vocab: Vocab,
    spelling: CharNgramModel,
    unicode: Unicode = Unicode.nfc,
) -> Iterator[EncodedText]:
    """The lines of a split as they were analysed for training, a row group at a time.

    Args:
        folder: of the prepared corpus.
        split: its name.
        vocab: of the run.
        spelling: of the run.
        unicode: normalization of the prepared corpus.
    """
    for path in shard_paths(folder / "tokens", split):
        for batch in read_columns(path, SCHEMA.names):
            yield EncodedText.of(pa.Table.from_batches([batch]), vocab, spelling, unicode)
