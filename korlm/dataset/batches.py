"""Batches of token ids; every token is predicted exactly once per epoch.

stream     truncated BPTT: the split is one stream that is cut into B rows; a batch is a window of T
           steps of all rows, and the state at its end is the initial state of the next batch

               rows of "a b c d e f g" for B = 2:     a b c d     windows for T = 2:  a b | c d
                                                      e f g                           e f | g

           The first input of a row is the token before it, <eos> at the start of the stream. Rows
           differ in length by one at most; the shorter ones end in <pad>.
sentence   padded sentences of similar length, each from <bos> to <eos>

``inputs`` are ``targets`` shifted by one step. Token ids are memory-mapped on the host, or copied
to the GPU once if they fit (``MAX_DEVICE_BYTES``), where batches are then gathered.

Axes: B rows, T steps, N tokens of the split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korlm.config import BatchesConfig, Mode
from korlm.dataset.storage.id_stream import Ids, IdStream, Int64, blocks_of, rows_of
from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID
from korlm.utils.errors import CorpusError

Bool = npt.NDArray[np.bool_]

MAX_DEVICE_BYTES = 1 << 28  # bound of the size of a split's ids on the GPU, 4 bytes per token
# Batches whose sentences are sorted together, as in torchtext's BucketIterator.
BUCKET_BATCHES = 100


@dataclass(frozen=True)
class Batch:
    """Input of one training or validation step; <pad> follows the end of a row."""

    inputs: Tensor  # int64 (B, T); (B, T, F) if a task has further ids of each token
    targets: Tensor  # int64 (B, T), the token after each input; of a task, see ``TargetsOf``
    # int64 (B,) on the CPU; None if all rows are full, or their final state is not needed.
    lengths: Tensor | None
    num_targets: int  # padding excluded, the rows of other processes included
    rows: Tensor | None = None  # int64 (B,) on the CPU, indices of examples, if rows are examples

    def for_rank(self, rank: int, world_size: int) -> Batch:
        """Return the rows of one process, which may be none; num_targets does not change.

        Rows are interleaved, so that each process gets long and short ones.
        """
        return self._select(slice(rank, None, world_size))

    def parts(self, max_tokens: int) -> Iterator[Batch]:
        """Yield consecutive rows, at most ``max_tokens`` tokens at a time, padding included.

        That is the number of inputs, or of targets if a row has more of them. num_targets does not
        change. A batch without ``rows`` has one part, because its rows may have a state.
        """
        size = max(1, len(self.inputs))
        if self.rows is not None:
            length = max([self.inputs.shape[1], *self.targets.shape[1:2]])
            size = rows_within(max_tokens, length)
        for begin in range(0, len(self.inputs), size):
            yield self._select(slice(begin, begin + size))

    def _select(self, part: slice) -> Batch:
        lengths = None if self.lengths is None else self.lengths[part]
        rows = None if self.rows is None else self.rows[part]
        return Batch(self.inputs[part], self.targets[part], lengths, self.num_targets, rows)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; lengths stay on the CPU, where packing needs them."""
        if self.inputs.device.type == device.type:
            return self
        inputs, targets = self.inputs, self.targets
        if device.type == "cuda":
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        inputs = inputs.to(device, non_blocking=True)
        targets = targets.to(device, non_blocking=True)
        return Batch(inputs, targets, self.lengths, self.num_targets, self.rows)


class Batches(Protocol):
    """Interface of the batches of one split.

    Attributes:
        carries_state: True if each batch continues the rows of the one before.
        batch_size: largest number of rows of a batch, over all processes.
        num_targets: number of targets of one epoch, over all processes.
    """

    carries_state: bool
    batch_size: int
    num_targets: int

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from the ``first`` on; they depend on the epoch alone."""


class _Rows:
    """Rows of ids, which are in memory, mapped from disk, or copied to a device.

    No operator on a device synchronizes with the host.
    """

    def __init__(self, ids: Ids | IdStream, device: torch.device | None) -> None:
        self._host_ids = ids
        self._ids: Tensor | None = None
        if device is not None:
            self._ids = torch.from_numpy(np.asarray(ids).astype(np.int32)).to(device)

    def gather(
        self, starts: Int64, lengths: Int64, starts_sequence: Bool, window: range, start_id: int
    ) -> tuple[Tensor, Tensor]:
        """Gather the inputs and targets of a batch, int64 (B, T), <pad> after the end of a row.

        Args:
            starts: (B,) index of the first target of each row in the ids.
            lengths: (B,) number of targets of each row.
            starts_sequence: (B,) True for rows whose first input is ``start_id``.
            window: the T steps of the rows to return.
            start_id: <bos> or <eos>.
        """
        first = starts + window.start - 1
        device = torch.device("cpu") if self._ids is None else self._ids.device
        values = _to_device(np.stack([first, lengths, starts_sequence]), device)
        begin, length, is_start = values[..., None]  # each (B, 1)
        steps = torch.arange(window.start, window.stop, device=device)
        if self._ids is None:
            ids = torch.from_numpy(rows_of(self._host_ids, first, len(window) + 1).astype(np.int64))
        else:
            index = begin + torch.arange(len(window) + 1, device=device)
            ids = self._ids[index.clamp(0, len(self._ids) - 1)].long()  # (B, T + 1)
        is_token = steps < length
        targets = torch.where(is_token, ids[:, 1:], PAD_ID)
        inputs = torch.where(is_token, ids[:, :-1], PAD_ID)
        return inputs.masked_fill((is_start > 0) & (steps == 0), start_id), targets


def _to_device(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to a device, without waiting for the device."""
    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class StreamBatches:
    """Windows of a stream that is cut into rows, for truncated BPTT.

    Args:
        ids: (N,) of the split.
        batch_size: number of rows; fewer if there are fewer tokens.
        bptt_length: steps of a window.
        device: GPU to copy the ids to; None: they stay on the host.
        shuffle_seed: None: all epochs are equal. Otherwise each row except the first one begins at
            a random token, another one in each epoch, and goes on with its own beginning when it
            reaches its end (Press 2019, "Partially Shuffling the Training Data to Improve Language
            Models"). The input of a target is still the token before it.

    >>> batches = StreamBatches(np.arange(4, 11, dtype=np.uint16), batch_size=2, bptt_length=2)
    >>> for batch in batches.epoch(0):
    ...     print(batch.inputs.tolist(), batch.targets.tolist())
    [[3, 4], [7, 8]] [[4, 5], [8, 9]]
    [[5, 6], [9, 0]] [[6, 7], [10, 0]]
    """

    carries_state = True

    def __init__(
        self,
        ids: Ids | IdStream,
        batch_size: int,
        bptt_length: int,
        device: torch.device | None = None,
        shuffle_seed: int | None = None,
    ) -> None:
        self._rows = _Rows(ids, device)
        self.num_targets = len(ids)
        self.batch_size = min(batch_size, len(ids))
        self._bptt_length = bptt_length
        self._seed = shuffle_seed
        short, longer = divmod(len(ids), self.batch_size)
        self._lengths = np.full(self.batch_size, short, dtype=np.int64)
        self._lengths[:longer] += 1
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)[:-1]])

    def __len__(self) -> int:
        return -(-int(self._lengths[0]) // self._bptt_length)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the windows from the ``first`` on."""
        shifts = self._shifts(epoch)
        ends = self._lengths - shifts  # (B,), the step at which a row goes on with its beginning
        is_first = self._starts == 0
        for index in range(first, len(self)):
            begin = index * self._bptt_length
            window = range(begin, min(begin + self._bptt_length, int(self._lengths[0])))
            rows = (self._starts + shifts, self._lengths, is_first)
            inputs, targets = self._rows.gather(*rows, window, EOS_ID)
            if window.stop > ends.min():
                rows = (self._starts - ends, self._lengths, is_first)
                other_inputs, other_targets = self._rows.gather(*rows, window, EOS_ID)
                has_ended = _to_device(np.array(window) >= ends[:, None], inputs.device)
                inputs = torch.where(has_ended, other_inputs, inputs)
                targets = torch.where(has_ended, other_targets, targets)
            num_targets = int(np.clip(self._lengths - begin, 0, len(window)).sum())
            yield Batch(inputs, targets, None, num_targets)

    def _shifts(self, epoch: int) -> Int64:
        """Return the index of the first target of each row in the row, (B,)."""
        if self._seed is None:
            return np.zeros_like(self._lengths)
        shifts = np.random.default_rng([self._seed, epoch]).integers(self._lengths)
        shifts[0] = 0  # its first input is <eos>, not the token before it
        return shifts


def rows_within(max_tokens: int, length: int) -> int:
    """Return how many rows of a length have at most ``max_tokens`` tokens; at least 1."""
    return max(1, max_tokens // max(length, 1))


def bucket_by_length(
    lengths: Int64, size: int, seed: int | None, epoch: int, second_lengths: Int64 | None = None
) -> list[Int64]:
    """Return the indices of the sequences of each batch, in decreasing length within a batch.

    Args:
        lengths: (N,), lengths of the sequences.
        size: number of sequences of a batch.
        seed: None: sorted by length, the same in each epoch. Otherwise each epoch shuffles the
            sequences, sorts them by length within buckets of ``BUCKET_BATCHES`` batches, and
            shuffles the batches.
        epoch: number of the epoch.
        second_lengths: (N,), such as target lengths: sorts sequences of the same length, also
            decreasing; None: no second key.
    """
    # lexsort's primary key is the last one.
    keys = (-lengths,) if second_lengths is None else (-second_lengths, -lengths)
    if seed is None:
        order = np.lexsort(keys)
        return [order[i : i + size] for i in range(0, len(order), size)]
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[Int64] = []
    for begin in range(0, len(order), size * BUCKET_BATCHES):
        bucket = order[begin : begin + size * BUCKET_BATCHES]
        bucket = bucket[np.lexsort([key[bucket] for key in keys])]
        batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
    return [batches[i] for i in random.permutation(len(batches))]


class BucketedSentenceBatches:
    """Padded sentences of similar length.

    Args:
        ids: (N,) of the split; a sentence ends with <eos>.
        batch_size: number of sentences.
        max_length: longer sentences are cut into pieces of this length. The first input of a later
            piece is the token before it; its state is the initial state.
        shuffle_seed: see ``bucket_by_length``.
        device: GPU to copy the ids to; None: they stay on the host.
    """

    carries_state = False

    def __init__(
        self,
        ids: Ids | IdStream,
        batch_size: int,
        max_length: int,
        shuffle_seed: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._rows = _Rows(ids, device)
        self.num_targets = len(ids)
        self.batch_size = batch_size
        self._seed = shuffle_seed
        starts, ends = sentence_bounds(ids)
        pieces = -(-(ends - starts) // max_length)
        sentence = np.repeat(np.arange(len(starts)), pieces)
        piece = np.arange(len(sentence)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        self._starts = starts[sentence] + piece * max_length
        self._lengths = np.minimum(ends[sentence] - self._starts, max_length)
        self._is_first = piece == 0

    def __len__(self) -> int:
        return -(-len(self._starts) // self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from the ``first`` on; rows are in decreasing length."""
        order = bucket_by_length(self._lengths, self.batch_size, self._seed, epoch)
        for sentences in order[first:]:
            lengths = self._lengths[sentences]
            rows = (self._starts[sentences], lengths, self._is_first[sentences])
            inputs, targets = self._rows.gather(*rows, range(int(lengths.max())), BOS_ID)
            is_full = bool((lengths == lengths[0]).all())
            row_lengths = None if is_full else torch.from_numpy(lengths)
            yield Batch(inputs, targets, row_lengths, int(lengths.sum()))


class RankBatches:
    """Rows of each batch that one of several processes works on; a batch may have none.

    >>> ids = np.arange(4, 11, dtype=np.uint16)
    >>> for batch in RankBatches(StreamBatches(ids, batch_size=2, bptt_length=2), 1, 2).epoch(0):
    ...     print(batch.targets.tolist(), batch.num_targets)
    [[8, 9]] 4
    [[10, 0]] 3
    """

    def __init__(self, batches: Batches, rank: int, world_size: int) -> None:
        self._batches, self._rank, self._world_size = batches, rank, world_size
        self.carries_state = batches.carries_state
        self.batch_size = batches.batch_size
        self.num_targets = batches.num_targets

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the rows of this process from the ``first`` batch on."""
        for batch in self._batches.epoch(epoch, first):
            yield batch.for_rank(self._rank, self._world_size)


def sentence_bounds(ids: Ids | IdStream) -> tuple[Int64, Int64]:
    """Return the begin and the end of each sentence of a stream, its <eos> included."""
    parts, size = [], 0
    for block in blocks_of(ids):
        parts.append(np.flatnonzero(np.asarray(block) == EOS_ID) + size + 1)
        size += len(block)
    ends = np.concatenate(parts)
    if not len(ends) or ends[-1] != len(ids):
        ends = np.append(ends, len(ids))
    return np.concatenate([[0], ends[:-1]]), ends


def sentences_of(ids: Ids | IdStream) -> list[Ids]:
    """Return the ids of each sentence of a stream, its <eos> included."""
    return [ids[begin:end] for begin, end in zip(*sentence_bounds(ids), strict=True)]


def build_batches(
    ids: Ids | IdStream,
    config: BatchesConfig,
    train: bool,
    seed: int,
    split: str,
    device: torch.device | None = None,
) -> Batches:
    """Build the batches of a split.

    Args:
        ids: (N,) of the split.
        config: settings of the batches.
        train: True to use the training batch size, and to shuffle sentences or the starts of rows.
        seed: for shuffling.
        split: name of the split, for messages.
        device: of the model; ids are copied to a GPU if they fit in ``MAX_DEVICE_BYTES``.

    Raises:
        CorpusError: the split is too small for the batch size and length.
    """
    size = config.batch_size if train else config.eval_batch_size
    if device is not None and (device.type != "cuda" or 4 * len(ids) > MAX_DEVICE_BYTES):
        device = None
    if config.mode is Mode.stream:
        needed = size * config.bptt_length if train else 1
        if len(ids) < needed:
            raise CorpusError(
                f"{split} has {len(ids):,} tokens, batches.batch_size={size} times "
                f"batches.bptt_length={config.bptt_length} needs {needed:,}: lower one of them or "
                "give more text"
            )
        shuffle_seed = seed if train and config.random_start else None
        return StreamBatches(ids, size, config.bptt_length, device, shuffle_seed)
    batches = BucketedSentenceBatches(
        ids, size, config.bptt_length, seed if train else None, device
    )
    if train and sum(int((block == EOS_ID).sum()) for block in blocks_of(ids)) < size:
        raise CorpusError(
            f"{split} has fewer than batches.batch_size={size} sentences: lower it or give more "
            "text"
        )
    return batches
