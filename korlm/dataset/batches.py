"""Ids -> batches, in the two ways the field has; every token is predicted exactly once.

stream     the split is one long stream cut into B columns; a batch is a window of T steps of all
           columns, and the state of one batch is where the next one begins

               columns of "a b c d e f g" for B = 2:      a b c d     windows for T = 2:  a b | c d
                                                          e f g                           e f | g

           A column's first input is the token before it, <eos> at the start of the stream. Columns
           differ in length by one at most; the shorter ones end in <pad>.
sentence   each sentence by itself, from <bos> to <eos>, beside others of similar length, padded

``inputs`` are ``targets`` one step earlier. Ids lie where they were read from, mapped from disk as
a rule, or, if they fit, on the GPU, which then makes its own batches. Knows nothing of models.
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
from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID
from korlm.utils.errors import CorpusError

Ids = npt.NDArray[np.unsignedinteger[Any]]


Int64 = npt.NDArray[np.int64]


Bool = npt.NDArray[np.bool_]


MAX_DEVICE_BYTES = 1 << 28  # bytes of a split's ids on a GPU, at four a token


BUCKET_BATCHES = (
    100  # batches whose sentences are sorted by length together, as torchtext's BucketIterator
)


@dataclass(frozen=True)
class Batch:
    """What a model is given for one step.

    Attributes:
        inputs: int64 (B, T), <pad> after the end of a row.
        targets: int64 (B, T), the token that follows each input, <pad> after the end of a row.
        lengths: int64 (B,) on the CPU, tokens in each row; None where all rows are full or nobody
            goes on from the end of a row.
        num_tokens: targets that are not <pad>, over all rows, those of other processes included.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None
    num_tokens: int

    def share(self, rank: int, size: int) -> Batch:
        """The rows of one of several processes, every ``size``-th; num_tokens stays the batch's.

        Every ``size``-th, so that long and short rows are spread evenly.
        """
        lengths = None if self.lengths is None else self.lengths[rank::size]
        inputs, targets = self.inputs[rank::size], self.targets[rank::size]
        return Batch(inputs, targets, lengths, self.num_tokens)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; lengths stay on the CPU, where packing wants them."""
        if self.inputs.device.type == device.type:
            return self
        inputs, targets = self.inputs, self.targets
        if device.type == "cuda":
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        inputs = inputs.to(device, non_blocking=True)
        targets = targets.to(device, non_blocking=True)
        return Batch(inputs, targets, self.lengths, self.num_tokens)


class Batches(Protocol):
    """The batches of one split.

    Attributes:
        carries_state: whether a batch goes on where the one before it ended.
        batch_size: rows of a batch, at most, over all processes.
        num_tokens: targets of one pass, over all processes.
    """

    carries_state: bool
    batch_size: int
    num_tokens: int

    def __len__(self) -> int:
        """Batches of one pass."""

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of one pass from the ``first``-th on; the same ones for the same epoch."""


class _HostIds:
    """Ids in memory or mapped from disk."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def rows(
        self, starts: Int64, lengths: Int64, starts_sequence: Bool, window: range, start_id: int
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a batch, int64 (B, T), <pad> where a row has ended.

        Args:
            starts: (B,), where the rows begin.
            lengths: (B,), of the rows.
            starts_sequence: (B,), True for rows whose first input is ``start_id``.
            window: steps of all rows, T of them.
            start_id: <bos> or <eos>.
        """
        at = starts[:, None] + np.arange(window.start, window.stop)
        real = at < (starts + lengths)[:, None]
        last = len(self._ids) - 1
        targets = np.where(real, self._ids[np.minimum(at, last)], PAD_ID).astype(np.int64)
        inputs = np.where(real, self._ids[np.clip(at - 1, 0, last)], PAD_ID).astype(np.int64)
        if window.start == 0:
            inputs[starts_sequence, 0] = start_id
        return torch.from_numpy(inputs), torch.from_numpy(targets)


class _DeviceIds:
    """Ids on a device, which is told where the rows of a batch lie and gathers them without us.

    The same as ``_HostIds`` with PyTorch's operators; none of them makes the host wait.
    """

    def __init__(self, ids: Ids, device: torch.device) -> None:
        self._ids = torch.from_numpy(np.asarray(ids).astype(np.int32)).to(device)

    def rows(
        self, starts: Int64, lengths: Int64, starts_sequence: Bool, window: range, start_id: int
    ) -> tuple[Tensor, Tensor]:
        """See ``_HostIds.rows``."""
        device = self._ids.device
        places = torch.from_numpy(np.stack([starts, starts + lengths, starts_sequence]))
        if device.type == "cuda":
            places = places.pin_memory()
        begin, end, is_fresh = places.to(device, non_blocking=True)[..., None]  # each (B, 1)
        steps = torch.arange(window.start, window.stop, device=device)
        at = begin + steps
        real = at < end
        last = len(self._ids) - 1
        targets = torch.where(real, self._ids[at.clamp(max=last)], PAD_ID)
        inputs = torch.where(real, self._ids[(at - 1).clamp(0, last)], PAD_ID)
        inputs = inputs.masked_fill((is_fresh > 0) & (steps == 0), start_id)
        return inputs.long(), targets.long()


def _source(ids: Ids, device: torch.device | None) -> _HostIds | _DeviceIds:
    return _HostIds(ids) if device is None else _DeviceIds(ids, device)


class StreamBatches:
    """One long stream in columns.

    Args:
        ids: (N,) of the split.
        batch_size: columns; fewer if there are fewer tokens.
        bptt_length: steps of a window.
        device: where to keep the ids; None: where they are.

    >>> batches = StreamBatches(np.arange(4, 11, dtype=np.uint16), batch_size=2, bptt_length=2)
    >>> for batch in batches.epoch(0):
    ...     print(batch.inputs.tolist(), batch.targets.tolist())
    [[3, 4], [7, 8]] [[4, 5], [8, 9]]
    [[5, 6], [9, 0]] [[6, 7], [10, 0]]
    """

    carries_state = True

    def __init__(
        self, ids: Ids, batch_size: int, bptt_length: int, device: torch.device | None = None
    ) -> None:
        self._source = _source(ids, device)
        self.num_tokens = len(ids)
        self.batch_size = min(batch_size, len(ids))
        self._bptt_length = bptt_length
        short, longer = divmod(len(ids), self.batch_size)
        self._lengths = np.full(self.batch_size, short, dtype=np.int64)
        self._lengths[:longer] += 1
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)[:-1]])

    def __len__(self) -> int:
        return -(-int(self._lengths[0]) // self._bptt_length)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The windows from the ``first``-th on; every epoch has the same."""
        for number in range(first, len(self)):
            begin = number * self._bptt_length
            window = range(begin, min(begin + self._bptt_length, int(self._lengths[0])))
            rows = (self._starts, self._lengths, self._starts == 0)
            inputs, targets = self._source.rows(*rows, window, EOS_ID)
            num_tokens = int(np.clip(self._lengths - begin, 0, len(window)).sum())
            yield Batch(inputs, targets, None, num_tokens)


class BucketedSentenceBatches:
    """Padded sentences of similar length.

    Args:
        ids: (N,) of the split; a sentence ends with <eos>.
        batch_size: sentences.
        max_length: longer sentences are cut there; each piece but the first is given the token
            before it as its first input, and a fresh state.
        shuffle_seed: None: sorted by length, the same in each epoch. Otherwise sentences are
            shuffled anew for each epoch, sorted within pools of 100 batches, and the batches
            shuffled.
        device: where to keep the ids; None: where they are.
    """

    carries_state = False

    def __init__(
        self,
        ids: Ids,
        batch_size: int,
        max_length: int,
        shuffle_seed: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._source = _source(ids, device)
        self.num_tokens = len(ids)
        self.batch_size = batch_size
        self._seed = shuffle_seed
        starts, ends = sentence_bounds(ids)
        pieces = -(-(ends - starts) // max_length)
        sentence = np.repeat(np.arange(len(starts)), pieces)
        nth = np.arange(len(sentence)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        self._starts = starts[sentence] + nth * max_length
        self._lengths = np.minimum(ends[sentence] - self._starts, max_length)
        self._is_first = nth == 0

    def __len__(self) -> int:
        return -(-len(self._starts) // self.batch_size)

    def _order(self, epoch: int) -> list[Int64]:
        """The sentences of each batch of an epoch."""
        size = self.batch_size
        if self._seed is None:
            order = np.argsort(-self._lengths, kind="stable")
            return [order[i : i + size] for i in range(0, len(order), size)]
        random = np.random.default_rng([self._seed, epoch])
        order = random.permutation(len(self._lengths))
        batches: list[Int64] = []
        for begin in range(0, len(order), size * BUCKET_BATCHES):
            pool = order[begin : begin + size * BUCKET_BATCHES]
            pool = pool[np.argsort(-self._lengths[pool], kind="stable")]
            batches += [pool[i : i + size] for i in range(0, len(pool), size)]
        return [batches[i] for i in random.permutation(len(batches))]

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the ``first``-th on; rows fall in length."""
        for rows in self._order(epoch)[first:]:
            lengths = self._lengths[rows]
            places = (self._starts[rows], lengths, self._is_first[rows])
            inputs, targets = self._source.rows(*places, range(int(lengths.max())), BOS_ID)
            is_full = bool((lengths == lengths[0]).all())
            known = None if is_full else torch.from_numpy(lengths)
            yield Batch(inputs, targets, known, int(lengths.sum()))


class RankBatches:
    """What one of several processes works on: its rows of each batch, sometimes none.

    Args:
        whole: the batches of all of them.
        rank: number of the process.
        size: number of processes.

    >>> ids = np.arange(4, 11, dtype=np.uint16)
    >>> for batch in RankBatches(StreamBatches(ids, batch_size=2, bptt_length=2), 1, 2).epoch(0):
    ...     print(batch.targets.tolist(), batch.num_tokens)
    [[8, 9]] 4
    [[10, 0]] 3
    """

    def __init__(self, whole: Batches, rank: int, size: int) -> None:
        self._whole, self._rank, self._size = whole, rank, size
        self.carries_state = whole.carries_state
        self.batch_size = whole.batch_size
        self.num_tokens = whole.num_tokens

    def __len__(self) -> int:
        return len(self._whole)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The rows of this process of the whole's batches; a batch may have none."""
        for batch in self._whole.epoch(epoch, first):
            yield batch.share(self._rank, self._size)


def sentence_bounds(ids: Ids) -> tuple[Int64, Int64]:
    """Where each sentence of a stream begins, and where it ends, its <eos> included."""
    ends = np.flatnonzero(np.asarray(ids) == EOS_ID) + 1
    if not len(ends) or ends[-1] != len(ids):
        ends = np.append(ends, len(ids))
    return np.concatenate([[0], ends[:-1]]), ends


def build_batches(
    ids: Ids,
    config: BatchesConfig,
    train: bool,
    seed: int,
    split: str,
    device: torch.device | None = None,
) -> Batches:
    """The batches of a split under the settings.

    Args:
        ids: (N,) of the split.
        config: stream or sentence, sizes.
        train: whether to use the training batch size and to shuffle sentences.
        seed: of the shuffling.
        split: its name, for messages.
        device: where the model is; a GPU keeps the ids if they fit in ``MAX_DEVICE_BYTES``.

    Raises:
        CorpusError: too little text for the batch size and length.
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
        return StreamBatches(ids, size, config.bptt_length, device)
    batches = BucketedSentenceBatches(
        ids, size, config.bptt_length, seed if train else None, device
    )
    if train and int((np.asarray(ids) == EOS_ID).sum()) < size:
        raise CorpusError(
            f"{split} has less than batches.batch_size={size} sentences: lower it or give more text"
        )
    return batches
