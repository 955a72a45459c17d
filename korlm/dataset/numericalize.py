"""Counts tokens and maps them to ids.

A split becomes one array of ids, ``ids/<split>.npy``: the tokens of all its lines in order, and
<eos> after each line that is not blank. Python loops run over different tokens only; everything
else is array operations.
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

from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.storage.shards import read_columns, shard_paths, split_counts
from korlm.dataset.vocab import EOS_ID, Vocab, id_dtype


def count_tokens(folder: Path, split: str) -> Counter[str]:
    """Count the tokens of a split."""
    counter: Counter[str] = Counter()
    get = counter.get  # ten times as fast as counter[token] for a missing token
    for path in shard_paths(folder, split):
        for batch in read_columns(path, ["morphs"]):
            counts = pc.value_counts(batch.column("morphs").flatten())
            columns = (_to_list(counts.field(name)) for name in ("values", "counts"))
            for token, count in zip(*columns, strict=True):
                counter[token] = get(token, 0) + count
    return counter


def encode_split(
    folder: Path, split: str, vocab: Vocab, target: Path, reverse: bool = False
) -> Counter[str]:
    """Write the ids of a split as a .npy file, uint16 if they fit, else uint32.

    Args:
        folder: of the shards.
        split: name of the split.
        vocab: maps tokens to ids.
        target: the .npy file.
        reverse: whether to reverse the tokens of each line; <eos> stays at its end.

    Returns:
        Counts of the tokens that their ids do not determine (unknown, lower-cased or replaced
        numbers), whose spelling the spelling model has to encode.
    """
    size = split_counts(folder, split).num_tokens
    dtype = np.dtype(id_dtype(len(vocab))).newbyteorder("<")
    lossy_tokens: Counter[str] = Counter()
    written = 0
    # Not through a memory map, whose pages would count as memory of this process.
    with open(target, "wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": (size,)}
        np.lib.format.write_array_header_1_0(file, header)
        for ids in _encode_lines(folder, split, vocab, lossy_tokens, reverse):
            file.write(ids.astype(dtype).tobytes())
            written += len(ids)
    assert written == size, f"{split}: {written} ids written, {size} expected"
    return lossy_tokens


def _encode_lines(
    folder: Path, split: str, vocab: Vocab, lossy_tokens: Counter[str], reverse: bool
) -> Iterator[npt.NDArray[np.int64]]:
    for path in shard_paths(folder, split):
        for batch in read_columns(path, ["morphs", "status"]):
            tokens, indices, token_ids, lossless = encode_morphs(batch.column("morphs"), vocab)
            totals = np.bincount(indices, minlength=len(tokens))
            for index in np.flatnonzero(~lossless):
                lossy_tokens[tokens[index]] += int(totals[index])
            ends = line_lengths(batch.column("morphs"), batch.column("status"))
            ids = token_ids[indices]
            yield insert_eos(reverse_lines(ids, ends - 1) if reverse else ids, ends, EOS_ID)


def encode_morphs(
    morphs: pa.ListArray, vocab: Vocab
) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Look up each different token of some lines once.

    Args:
        morphs: of each line.
        vocab: maps tokens to ids.

    Returns:
        The K different tokens; the index of each of the N tokens among them, (N,); the ids of the
        different tokens, (K,); and whether each id determines its token exactly, (K,).
    """
    encoded = morphs.flatten().dictionary_encode()
    tokens = _to_list(encoded.dictionary)
    token_ids = vocab.encode(tokens)
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    return tokens, indices, token_ids, vocab.is_lossless(tokens, token_ids)


def _to_list(array: pa.Array) -> list[Any]:
    """Convert an array without nulls; several times as fast as ``to_pylist``."""
    values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
    return values


def line_lengths(morphs: pa.ListArray, status: pa.StringArray) -> npt.NDArray[np.int64]:
    """Return the number of tokens, <eos> included, of each line that is not blank."""
    lengths = pc.list_value_length(morphs).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    filled: npt.NDArray[np.int64] = lengths[filled_lines(status)]
    return filled


def filled_lines(status: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Return a mask of the lines that are not blank."""
    filled: npt.NDArray[np.bool_] = pc.not_equal(status, "empty").to_numpy(zero_copy_only=False)
    return filled


def insert_eos(flat: npt.NDArray[Any], lengths: npt.NDArray[np.int64], end: Any) -> Any:
    """Insert a value after those of each line.

    Args:
        flat: one value per token of all lines, (N,).
        lengths: tokens of each line that is not blank, <eos> included, (lines,).
        end: the value for <eos>.

    Returns:
        An array of N + lines values.
    """
    result = np.full(len(flat) + len(lengths), end, dtype=flat.dtype)
    is_token = np.ones(len(result), dtype=bool)
    is_token[np.cumsum(lengths) - 1] = False
    result[is_token] = flat
    return result


def reverse_lines(flat: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return values with the order within each line reversed.

    Args:
        flat: one value per token of all lines, (N,).
        lengths: tokens of each line, (lines,); the sum is N.

    >>> reverse_lines(np.array([1, 2, 3, 4, 5]), np.array([3, 2])).tolist()
    [3, 2, 1, 5, 4]
    """
    ends = np.cumsum(lengths)
    mirrored = np.repeat(2 * ends - lengths - 1, lengths) - np.arange(len(flat))
    result: npt.NDArray[Any] = flat[mirrored]
    return result


def spelling_nats(model: CharNgramModel, lossy_tokens: Counter[str]) -> float:
    """Return the total cost in nats of spelling tokens.

    Args:
        model: the spelling model.
        lossy_tokens: counts of the tokens.
    """
    tokens = sorted(lossy_tokens)
    counts = np.array([lossy_tokens[token] for token in tokens], dtype=np.float64)
    return float(model.nats(tokens) @ counts)
