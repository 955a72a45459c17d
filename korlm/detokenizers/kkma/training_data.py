"""Read training data: the tokens of a prepared corpus with the written eojeols, as flat arrays."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from korlm.dataset.storage.shards import read_columns, read_counts, shard_paths

Ints = npt.NDArray[np.int64]

MAX_SHARDS = 16  # a sample of the text does not need all shards of a large corpus


@dataclass(frozen=True)
class AlignedTokens:
    """Tokens of consecutive lines; N tokens, W eojeols.

    Attributes:
        morphs: distinct morphs.
        tags: distinct tags.
        morph_ids: index into ``morphs`` of each token, (N,).
        tag_ids: index into ``tags`` of each token, (N,).
        eojeol_ids: index into ``eojeols`` of each token, (N,).
        line_ids: line number of each token, (N,).
        eojeols: the eojeols as written, (W,).
    """

    morphs: list[str]
    tags: list[str]
    morph_ids: Ints
    tag_ids: Ints
    eojeol_ids: Ints
    line_ids: Ints
    eojeols: list[str]

    def count_eojeols(self) -> Counter[tuple[tuple[str, ...], tuple[str, ...], str]]:
        """Return the counts of distinct eojeols: (morphs, tags, written form)."""
        starts = np.flatnonzero(np.diff(self.eojeol_ids, prepend=-1))
        ends = np.append(starts[1:], len(self.eojeol_ids))
        # The bytes of (morph, tag) codes are faster to hash than tuples of strings.
        codes = (self.morph_ids * len(self.tags) + self.tag_ids).astype("<i8").tobytes()
        written = map(self.eojeols.__getitem__, self.eojeol_ids[starts].tolist())
        packed = Counter(
            (codes[8 * start : 8 * end], eojeol)
            for start, end, eojeol in zip(starts.tolist(), ends.tolist(), written, strict=True)
        )
        counts: Counter[tuple[tuple[str, ...], tuple[str, ...], str]] = Counter()
        for (eojeol_codes, eojeol), count in packed.items():
            morph_ids, tag_ids = np.divmod(np.frombuffer(eojeol_codes, "<i8"), len(self.tags))
            morphs = tuple(map(self.morphs.__getitem__, morph_ids.tolist()))
            counts[morphs, tuple(map(self.tags.__getitem__, tag_ids.tolist())), eojeol] = count
        return counts


def read_aligned_tokens(folder: Path, max_tokens: int) -> AlignedTokens:
    """Read the training tokens of a prepared corpus.

    Args:
        folder: the prepared corpus.
        max_tokens: approximate limit; of a larger train every second, third, ... line is read, of
            ``MAX_SHARDS`` to ``2 * MAX_SHARDS - 1`` shards if there are more.

    Raises:
        PreparedError: a shard is damaged.
    """
    paths = shard_paths(folder / "tokens", "train")
    paths = paths[:: max(1, len(paths) // MAX_SHARDS)]
    total = sum(read_counts(path).num_morphs for path in paths)
    step = max(1, -(-total // max_tokens))
    batches = [
        batch.take(pa.array(np.arange(0, len(batch), step)))
        for path in paths
        for batch in read_columns(path, ["text", "morphs", "tags", "eojeol"])
    ]
    texts = [str(text) for batch in batches for text in batch.column("text").to_pylist()]
    line_eojeols = [unicodedata.normalize("NFC", text).split() for text in texts]
    first_ids = np.cumsum([0, *map(len, line_eojeols)])[:-1]
    num_tokens = [batch.column("morphs").value_lengths().to_numpy() for batch in batches]
    line_ids = np.repeat(np.arange(len(texts)), np.concatenate(num_tokens or [[]]).astype(np.int64))
    numbers = [batch.column("eojeol").flatten().to_numpy() for batch in batches]
    eojeol_ids = np.concatenate(numbers or [[]]).astype(np.int64)
    eojeols = [eojeol for line in line_eojeols for eojeol in line]
    if eojeols:
        eojeol_ids += first_ids[line_ids]
    morphs, morph_ids = _dictionary_encode(batches, "morphs")
    tags, tag_ids = _dictionary_encode(batches, "tags")
    return AlignedTokens(morphs, tags, morph_ids, tag_ids, eojeol_ids, line_ids, eojeols)


def _dictionary_encode(batches: list[pa.RecordBatch], column: str) -> tuple[list[str], Ints]:
    """Return the distinct strings of a column of lists, and the index of each string."""
    chunks = [batch.column(column).flatten() for batch in batches]
    encoded = pa.chunked_array(chunks, pa.string()).combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
