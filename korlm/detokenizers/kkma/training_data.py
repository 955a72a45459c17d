"""Tokens of a prepared corpus beside the eojeols that were written, as flat arrays."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from korlm.dataset.shards import read_columns, read_counts, shard_paths

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AlignedTokens:
    """All tokens of some lines, one line after another; N tokens, W eojeols.

    Attributes:
        morphs: the different morphs, which ``morph_ids`` (N,) count.
        tags: the different tags, which ``tag_ids`` (N,) count.
        word_ids: of each token the eojeol it stands in, counted over all lines (N,).
        line_ids: of each token its line (N,).
        words: the eojeols as they were written (W,).
    """

    morphs: list[str]
    tags: list[str]
    morph_ids: Ints
    tag_ids: Ints
    word_ids: Ints
    line_ids: Ints
    words: list[str]

    def eojeols(self) -> Counter[tuple[tuple[str, ...], tuple[str, ...], str]]:
        """How often each eojeol stands there: its morphs, their tags, what was written."""
        starts = np.flatnonzero(np.diff(self.word_ids, prepend=-1))
        ends = np.append(starts[1:], len(self.word_ids))
        both = (self.morph_ids * len(self.tags) + self.tag_ids).astype("<i8").tobytes()
        written = map(self.words.__getitem__, self.word_ids[starts].tolist())
        packed = Counter(
            (both[8 * begin : 8 * end], word)
            for begin, end, word in zip(starts.tolist(), ends.tolist(), written, strict=True)
        )
        found: Counter[tuple[tuple[str, ...], tuple[str, ...], str]] = Counter()
        for (codes, word), count in packed.items():
            morph_ids, tag_ids = np.divmod(np.frombuffer(codes, "<i8"), len(self.tags))
            morphs = tuple(map(self.morphs.__getitem__, morph_ids.tolist()))
            found[morphs, tuple(map(self.tags.__getitem__, tag_ids.tolist())), word] = count
        return found


def read_samples(folder: Path, split: str, limit: int | None = None) -> AlignedTokens:
    """The tokens of a split of a prepared corpus.

    Args:
        folder: of the prepared corpus.
        split: train, valid or test.
        limit: about as many tokens at most; every second, third ... line, if there are more.

    Raises:
        PreparedError: a shard is damaged.
    """
    paths = shard_paths(folder / "tokens", split)
    total = sum(read_counts(path).num_morphs for path in paths)
    every = 1 if limit is None else max(1, -(-total // limit))
    columns = ["text", "morphs", "tags", "eojeol"]
    parts = [
        batch.take(pa.array(np.arange(0, len(batch), every)))
        for path in paths
        for batch in read_columns(path, columns)
    ]
    texts = [str(text) for part in parts for text in part.column("text").to_pylist()]
    units = [unicodedata.normalize("NFC", text).split() for text in texts]
    lengths = np.concatenate([_lengths(part) for part in parts] or [np.zeros(0, np.int64)])
    first = np.cumsum([0, *map(len, units)])[:-1]
    morphs, morph_ids = _coded(parts, "morphs")
    tags, tag_ids = _coded(parts, "tags")
    eojeol = [part.column("eojeol").flatten().to_numpy() for part in parts]
    within = np.concatenate(eojeol or [np.zeros(0, np.int64)]).astype(np.int64)
    line_ids = np.repeat(np.arange(len(texts)), lengths)
    words = [unit for line in units for unit in line]
    word_ids = first[line_ids] + within if len(words) else within
    return AlignedTokens(morphs, tags, morph_ids, tag_ids, word_ids, line_ids, words)


def _lengths(part: Any) -> Ints:
    lengths: Ints = part.column("morphs").value_lengths().to_numpy().astype(np.int64)
    return lengths


def _coded(parts: list[Any], column: str) -> tuple[list[str], Ints]:
    """The different strings of a column of lists, and which of them stands where."""
    flat: Iterator[Any] = (part.column(column).flatten() for part in parts)
    coded = pa.chunked_array(list(flat), pa.string()).combine_chunks().dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64)
