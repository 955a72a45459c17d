"""Token shards -> counts -> ids, at array speed: Python loops over different tokens only.

Each split becomes one array of ids, ``ids/<split>.npy``: the tokens of all its lines in order, and
<eos> after each line that is not blank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from korlm.dataset.shards import ShardCounts, read_columns, read_counts, shard_paths
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.vocab import EOS_ID, Vocab, id_dtype


def split_counts(folder: Path, split: str) -> ShardCounts:
    """The counts of all shards of a split, added up."""
    counts = ShardCounts()
    for path in shard_paths(folder, split):
        counts.add(read_counts(path))
    return counts


def count_tokens(folder: Path, split: str) -> Counter[str]:
    """How often each token stands in the shards of a split."""
    counter: Counter[str] = Counter()
    count_of = counter.get  # a lookup that fails takes ten times as long
    for path in shard_paths(folder, split):
        for batch in read_columns(path, ["morphs"]):
            counts = pc.value_counts(batch.column("morphs").flatten())
            pairs = zip(*(_plain(counts.field(name)) for name in ("values", "counts")), strict=True)
            for token, count in pairs:
                counter[token] = count_of(token, 0) + count
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
    lossy_tokens: Counter[str] = Counter()
    written = 0
    # Written in a row, not through a memory map, whose pages would count as this process's memory.
    with open(target, "wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": (size,)}
        np.lib.format.write_array_header_1_0(file, header)
        for ids in _batches(folder, split, vocab, lossy_tokens):
            file.write(ids.astype(dtype).tobytes())
            written += len(ids)
    assert written == size, f"{split}: {written} ids written, {size} expected"
    return lossy_tokens


def _batches(
    folder: Path, split: str, vocab: Vocab, lossy_tokens: Counter[str]
) -> Iterator[npt.NDArray[np.int64]]:
    for path in shard_paths(folder, split):
        for batch in read_columns(path, ["morphs", "status"]):
            tokens, indices, token_ids, spelt = encode_morphs(batch.column("morphs"), vocab)
            totals = np.bincount(indices, minlength=len(tokens))
            for at in np.flatnonzero(~spelt):
                lossy_tokens[tokens[at]] += int(totals[at])
            ends = line_ends(batch.column("morphs"), batch.column("status"))
            yield insert_eos(token_ids[indices], ends, EOS_ID)


def encode_morphs(
    morphs: pa.ListArray, vocab: Vocab
) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The tokens of some lines, each different one looked up once.

    Args:
        morphs: of each line.
        vocab: gives the ids.

    Returns:
        The K different tokens; for all N tokens of the lines their place among those, (N,); the id
        of each different token and whether it gives the token back to the letter, (K,) both.
    """
    encoded = morphs.flatten().dictionary_encode()
    tokens = _plain(encoded.dictionary)
    token_ids = vocab.encode(tokens)
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    return tokens, indices, token_ids, vocab.is_lossless(tokens, token_ids)


def _plain(array: pa.Array) -> list[Any]:
    """The values without null; by way of numpy, several times as fast as ``to_pylist``."""
    values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
    return values


def line_ends(morphs: pa.ListArray, status: pa.StringArray) -> npt.NDArray[np.int64]:
    """Where <eos> goes: how many tokens, <eos> itself included, each line has that is not blank."""
    lengths = pc.list_value_length(morphs).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    filled: npt.NDArray[np.int64] = lengths[filled_lines(status)]
    return filled


def filled_lines(status: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which lines are not blank."""
    filled: npt.NDArray[np.bool_] = pc.not_equal(status, "empty").to_numpy(zero_copy_only=False)
    return filled


def insert_eos(flat: npt.NDArray[Any], lengths: npt.NDArray[np.int64], end: Any) -> Any:
    """Puts ``end`` behind the values of each line.

    Args:
        flat: of the tokens of all lines.
        lengths: of the lines that are not blank, the end included.
        end: what to put there.
    """
    result = np.full(len(flat) + len(lengths), end, dtype=flat.dtype)
    is_token = np.ones(len(result), dtype=bool)
    is_token[np.cumsum(lengths) - 1] = False
    result[is_token] = flat
    return result


def spelling_nats(model: CharNgramModel, lossy_tokens: Counter[str]) -> float:
    """What the tokens that ids do not give back cost in all, in nats."""
    tokens = sorted(lossy_tokens)
    counts = np.array([lossy_tokens[token] for token in tokens], dtype=np.float64)
    return float(model.nats(tokens) @ counts)
