"""Token shards -> counts -> ids, at array speed: Python loops over different tokens only.

Each split becomes one array of ids, ``ids/<split>.npy``: the tokens of all its lines in order, and
<eos> after each line that is not blank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from korlm.data.shards import ShardCounts, read_columns, read_counts, shard_paths
from korlm.data.spelling import SpellingModel
from korlm.data.vocab import EOS_ID, Vocab, id_dtype


def split_counts(folder: Path, split: str) -> ShardCounts:
    """The counts of all shards of a split, added up."""
    counts = ShardCounts()
    for path in shard_paths(folder, split):
        counts.add(read_counts(path))
    return counts


def count_tokens(folder: Path, split: str) -> Counter[str]:
    """How often each token stands in the shards of a split."""
    counter: Counter[str] = Counter()
    for path in shard_paths(folder, split):
        for batch in read_columns(path, ["morphs"]):
            counts = pc.value_counts(batch.column("morphs").flatten())
            tokens = counts.field("values").to_pylist()
            for token, count in zip(tokens, counts.field("counts").to_pylist(), strict=True):
                counter[token] += count
    return counter


def encode_split(folder: Path, split: str, vocab: Vocab, target: Path) -> Counter[str]:
    """Writes the ids of a split as a .npy file.

    Args:
        folder: of the shards.
        split: its name.
        vocab: gives the ids; uint16 where they fit, else uint32.
        target: the .npy file.

    Returns:
        The tokens that their ids do not give back (unknown, lower-cased, numbers made one), with
        their counts: what the spelling model must pay for.
    """
    size = split_counts(folder, split).num_tokens
    dtype = np.dtype(id_dtype(len(vocab))).newbyteorder("<")
    unspelt: Counter[str] = Counter()
    written = 0
    # Written in a row, not through a memory map, whose pages would count as this process's memory.
    with open(target, "wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": (size,)}
        np.lib.format.write_array_header_1_0(file, header)
        for ids in _batches(folder, split, vocab, unspelt):
            file.write(ids.astype(dtype).tobytes())
            written += len(ids)
    assert written == size, f"{split}: {written} ids written, {size} expected"
    return unspelt


def _batches(
    folder: Path, split: str, vocab: Vocab, unspelt: Counter[str]
) -> Iterator[npt.NDArray[np.int64]]:
    for path in shard_paths(folder, split):
        for batch in read_columns(path, ["morphs", "status"]):
            morphs = batch.column("morphs")
            encoded = morphs.flatten().dictionary_encode()
            tokens = encoded.dictionary.to_pylist()
            token_ids = vocab.encode(tokens)
            indices = encoded.indices.to_numpy(zero_copy_only=False)
            totals = np.bincount(indices, minlength=len(tokens))
            for token, token_id, total in zip(tokens, token_ids, totals, strict=True):
                if not vocab.is_spelt(token, int(token_id)):
                    unspelt[token] += int(total)
            yield _with_ends(token_ids[indices], morphs, batch.column("status"))


def _with_ends(
    flat: npt.NDArray[np.int64], morphs: pa.ListArray, status: pa.StringArray
) -> npt.NDArray[np.int64]:
    """Puts <eos> after the ids of each line that is not blank."""
    lengths = pc.list_value_length(morphs).to_numpy(zero_copy_only=False)
    filled = pc.not_equal(status, "empty").to_numpy(zero_copy_only=False)
    lengths = lengths[filled].astype(np.int64)
    result = np.full(len(flat) + len(lengths), EOS_ID, dtype=np.int64)
    is_token = np.ones(len(result), dtype=bool)
    is_token[np.cumsum(lengths + 1) - 1] = False
    result[is_token] = flat
    return result


def spelling_nats(model: SpellingModel, unspelt: Counter[str]) -> float:
    """What the tokens that ids do not give back cost in all, in nats."""
    tokens = sorted(unspelt)
    counts = np.array([unspelt[token] for token in tokens], dtype=np.float64)
    return float(model.nats(tokens) @ counts)
