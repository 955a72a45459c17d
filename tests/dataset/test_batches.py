"""Batches: every token is a target exactly once; torchtext's iterators as oracles."""

import dataclasses
import itertools
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from one_line import error_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchtext.data import BPTTIterator, BucketIterator, Dataset, Example, Field

from korlm.config import BatchesConfig, Mode
from korlm.dataset import batches as batches_module
from korlm.dataset.batches import (
    Batch,
    Batches,
    BucketedSentenceBatches,
    RankBatches,
    StreamBatches,
    bucket_by_length,
    build_batches,
)
from korlm.dataset.example_batches import ExampleBatches, padded_batches
from korlm.dataset.storage.id_stream import join_shards
from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID

Sentences = list[list[int]]


def stream_of(size: int, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    """Return distinct ids, so that each target identifies its position."""
    return np.random.default_rng(seed).permutation(size).astype(np.uint16) + 10


def sentences_of(count: int, longest: int, seed: int = 0) -> Sentences:
    """Return sentences of distinct ids with <eos>; some consist of <eos> only."""
    rng, ids = random.Random(seed), itertools.count(10)
    return [[*itertools.islice(ids, rng.randint(0, longest - 1)), EOS_ID] for _ in range(count)]


def joined(sentences: Sentences) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(list(itertools.chain(*sentences)), dtype=np.uint32)


def rows_of(batches: list[Batch]) -> list[tuple[list[int], list[int]]]:
    """Return (inputs, targets) of every row, without padding."""
    rows = []
    for batch in batches:
        for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
            size = len(targets) - targets[::-1].count(PAD_ID) if PAD_ID in targets else len(targets)
            assert inputs[size:] == targets[size:] == [PAD_ID] * (len(targets) - size)
            rows.append((inputs[:size], targets[:size]))
    return rows


def check_batch(batch: Batch) -> None:
    """Check the invariants of a batch."""
    assert batch.inputs.shape == batch.targets.shape
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    real = batch.targets != PAD_ID
    assert batch.num_targets == int(real.sum())
    assert torch.equal(batch.inputs == PAD_ID, ~real)
    if batch.lengths is not None:
        assert batch.lengths.dtype == torch.int64
        assert batch.lengths.tolist() == real.sum(1).tolist()


# Stream


def columns(batches: list[Batch]) -> tuple[Tensor, Tensor]:
    """Return the windows concatenated in time: (B, longest column)."""
    inputs = torch.cat([batch.inputs for batch in batches], dim=1)
    return inputs, torch.cat([batch.targets for batch in batches], dim=1)


def test_stream_by_hand() -> None:
    ids = np.arange(10, 21, dtype=np.uint16)  # 11 tokens in 3 columns: 4, 4 and 3
    first, second = StreamBatches(ids, batch_size=3, bptt_length=3).epoch(0)
    assert first.targets.tolist() == [[10, 11, 12], [14, 15, 16], [18, 19, 20]]
    assert first.inputs.tolist() == [[EOS_ID, 10, 11], [13, 14, 15], [17, 18, 19]]
    assert second.targets.tolist() == [[13], [17], [PAD_ID]]
    assert second.inputs.tolist() == [[12], [16], [PAD_ID]]
    assert (first.num_targets, second.num_targets) == (9, 2)
    assert first.lengths is second.lengths is None


@pytest.mark.parametrize(
    ("size", "batch_size", "bptt_length"),
    [(1, 1, 1), (1, 5, 3), (7, 2, 3), (100, 4, 5), (101, 4, 5), (99, 7, 100), (500, 13, 8)],
)
def test_each_token_of_a_stream_is_a_target_once(
    size: int, batch_size: int, bptt_length: int
) -> None:
    ids = stream_of(size)
    batches = StreamBatches(ids, batch_size, bptt_length)
    windows = list(batches.epoch(0))
    assert len(windows) == len(batches)
    assert batches.num_targets == size == sum(window.num_targets for window in windows)
    for window in windows:
        check_batch(window)
        assert window.targets.shape[1] <= bptt_length
        assert window.targets.shape[0] == batches.batch_size == min(batch_size, size)
    inputs, targets = columns(windows)
    # The targets of one column after the other are the stream.
    real = targets != PAD_ID
    assert targets[real].tolist() == ids.tolist()
    assert inputs[real].tolist() == [EOS_ID, *ids.tolist()[:-1]]
    lengths = real.sum(1)
    assert int(lengths.max() - lengths.min()) <= 1
    # Padding occurs at the ends of columns only.
    assert all(row.tolist() == sorted(row.tolist(), reverse=True) for row in real)


@pytest.mark.parametrize(("batch_size", "bptt_length"), [(4, 5), (5, 7), (1, 30), (20, 3)])
def test_stream_against_torchtext(batch_size: int, bptt_length: int) -> None:
    ids = stream_of(600)
    text = Field(use_vocab=False, batch_first=True)
    example = Example.fromlist([ids.tolist()], [("text", text)])
    oracle = list(
        BPTTIterator(Dataset([example], [("text", text)]), batch_size, bptt_length, repeat=False)
    )
    their_inputs = torch.cat([batch.text for batch in oracle], dim=1)
    their_targets = torch.cat([batch.target for batch in oracle], dim=1)
    inputs, targets = columns(list(StreamBatches(ids, batch_size, bptt_length).epoch(0)))
    # torchtext never predicts the first token of a column; the rest is the same.
    assert torch.equal(inputs[:, 1:], their_inputs)
    assert torch.equal(targets[:, 1:], their_targets)
    assert targets[:, 0].tolist() == ids[:: len(ids) // batch_size].tolist()


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("mode", Mode)
def test_an_epoch_continues_from_any_batch(mode: Mode, seed: int | None) -> None:
    batches = StreamBatches(stream_of(101), 4, 5, shuffle_seed=seed)
    if mode is Mode.sentence:
        batches = BucketedSentenceBatches(joined(sentences_of(60, longest=9)), 8, 20, seed)
    assert batches.carries_state is (mode is Mode.stream)
    whole = list(batches.epoch(4))
    for first in range(len(whole) + 1):
        check_same(list(batches.epoch(4, first)), whole[first:])


def test_random_starts_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.arange(10, 21, dtype=np.uint16)  # 11 tokens in 3 columns: 4, 4 and 3
    batches = StreamBatches(ids, batch_size=3, bptt_length=3, shuffle_seed=1)
    monkeypatch.setattr(batches, "_shifts", lambda epoch: np.array([0, 3, 1]))
    first, second = batches.epoch(0)
    assert first.targets.tolist() == [[10, 11, 12], [17, 14, 15], [19, 20, 18]]
    assert first.inputs.tolist() == [[EOS_ID, 10, 11], [16, 13, 14], [18, 19, 17]]
    assert second.targets.tolist() == [[13], [16], [PAD_ID]]
    assert second.inputs.tolist() == [[12], [15], [PAD_ID]]
    assert (first.num_targets, second.num_targets) == (9, 2)


@pytest.mark.parametrize("parts", [1, 4], ids=["array", "files"])
@pytest.mark.parametrize(
    ("size", "batch_size", "bptt_length"), [(1, 1, 1), (7, 2, 3), (101, 4, 5), (99, 7, 100)]
)
def test_random_starts_keep_every_token_and_its_predecessor(
    size: int, batch_size: int, bptt_length: int, parts: int
) -> None:
    ids = stream_of(size)
    stream = join_shards(np.array_split(ids, parts))
    in_order = StreamBatches(ids, batch_size, bptt_length)
    batches = StreamBatches(stream, batch_size, bptt_length, shuffle_seed=1)
    inputs, targets = columns(list(batches.epoch(0)))
    list(map(check_batch, batches.epoch(0)))
    for row, ordered in zip(targets, columns(list(in_order.epoch(0)))[1], strict=True):
        # A column has its tokens in their order, from any of them on.
        shift = int((ordered == row[0]).nonzero()[0])
        real = ordered[ordered != PAD_ID]
        assert row[: len(real)].tolist() == real.roll(-shift).tolist()
    real = targets != PAD_ID
    before = dict(zip(ids.tolist(), [EOS_ID, *ids.tolist()], strict=False))
    assert inputs[real].tolist() == [before[token] for token in targets[real].tolist()]


def test_random_starts_follow_from_seed_and_epoch() -> None:
    def targets(seed: int, epoch: int) -> list[list[list[int]]]:
        return epoch_of(StreamBatches(stream_of(101), 4, 5, shuffle_seed=seed), epoch)

    assert targets(1, 0) == targets(1, 0) != targets(1, 1) != targets(2, 1)


# Sentences


def test_sentences_by_hand() -> None:
    ids = joined([[10, 11, EOS_ID], [EOS_ID], [12, 13, 14, 15, 16, EOS_ID], [17, EOS_ID]])
    first, second, third = BucketedSentenceBatches(ids, batch_size=2, max_length=4).epoch(0)
    # 12 to 15 fill a row; 16 and <eos> continue in another row, whose first input is 15.
    assert first.targets.tolist() == [[12, 13, 14, 15], [10, 11, EOS_ID, PAD_ID]]
    assert first.inputs.tolist() == [[BOS_ID, 12, 13, 14], [BOS_ID, 10, 11, PAD_ID]]
    assert first.lengths is not None and first.lengths.tolist() == [4, 3]
    assert second.targets.tolist() == [[16, EOS_ID], [17, EOS_ID]]
    assert second.inputs.tolist() == [[15, 16], [BOS_ID, 17]]
    assert second.lengths is None  # all rows are full
    assert third.targets.tolist() == [[EOS_ID]] and third.inputs.tolist() == [[BOS_ID]]
    assert [batch.num_targets for batch in (first, second, third)] == [7, 4, 1]


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("max_length", [1, 3, 7, 100])
@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_each_token_of_a_sentence_is_a_target_once(
    seed: int | None, max_length: int, batch_size: int
) -> None:
    sentences = sentences_of(150, longest=12)
    pieces = [
        ([BOS_ID, *sentence][begin : begin + max_length], sentence[begin : begin + max_length])
        for sentence in sentences
        for begin in range(0, len(sentence), max_length)
    ]
    pieces = [(inputs[: len(targets)], targets) for inputs, targets in pieces]
    batches = BucketedSentenceBatches(joined(sentences), batch_size, max_length, seed)
    result = list(batches.epoch(0))
    assert len(result) == len(batches)
    for batch in result:
        check_batch(batch)
        lengths = (batch.targets != PAD_ID).sum(1).tolist()
        assert lengths == sorted(lengths, reverse=True)  # as packing requires
        assert (batch.lengths is None) == (len(set(lengths)) == 1)
        assert batch.targets.shape[1] == lengths[0] <= max_length
        assert len(lengths) <= batch_size
    assert sorted(rows_of(result)) == sorted(pieces)
    total = sum(map(len, sentences))
    assert batches.num_targets == total == sum(batch.num_targets for batch in result)


def test_a_last_sentence_without_its_end() -> None:
    ids = np.array([10, EOS_ID, 11, 12], dtype=np.uint16)
    (batch,) = BucketedSentenceBatches(ids, 5, 10).epoch(0)
    assert rows_of([batch]) == [([BOS_ID, 10], [10, EOS_ID]), ([BOS_ID, 11], [11, 12])]


@pytest.mark.parametrize("batch_size", [4, 7])
def test_sentences_against_torchtext(batch_size: int) -> None:
    # A little more than three pools of 100 batches.
    sentences = sentences_of(330 * batch_size, longest=40)
    text = Field(use_vocab=False, batch_first=True, pad_token=PAD_ID, include_lengths=True)
    examples = [Example.fromlist([sentence], [("text", text)]) for sentence in sentences]
    random.seed(1)
    oracle = BucketIterator(
        Dataset(examples, [("text", text)]),
        batch_size,
        sort_key=lambda example: len(example.text),
        sort_within_batch=True,
        train=True,
    )
    theirs: Counter[tuple[int, ...]] = Counter()
    their_padding = 0
    for batch in oracle:
        ids, lengths = batch.text
        their_padding += ids.numel() - int(lengths.sum())
        theirs.update(tuple(row[:n]) for row, n in zip(ids.tolist(), lengths.tolist(), strict=True))
    batches = BucketedSentenceBatches(joined(sentences), batch_size, 100, shuffle_seed=1)
    result = list(batches.epoch(0))
    assert len(result) == len(oracle)
    assert Counter(tuple(targets) for _, targets in rows_of(result)) == theirs
    padding = sum(batch.targets.numel() - batch.num_targets for batch in result)
    assert 0 < padding < 1.2 * their_padding
    unsorted = sum(
        max(map(len, group)) * len(group) - sum(map(len, group))
        for group in (
            sentences[at : at + batch_size] for at in range(0, len(sentences), batch_size)
        )
    )
    assert padding < 0.1 * unsorted


def epoch_of(batches: Batches, epoch: int) -> list[list[list[int]]]:
    return [batch.targets.tolist() for batch in batches.epoch(epoch)]


def test_the_order_follows_from_seed_and_epoch() -> None:
    ids = joined(sentences_of(300, longest=9))
    batches = BucketedSentenceBatches(ids, 8, 20, shuffle_seed=5)
    again = BucketedSentenceBatches(ids, 8, 20, shuffle_seed=5)
    assert epoch_of(batches, 2) == epoch_of(again, 2)
    assert epoch_of(batches, 0) == epoch_of(again, 0)
    orders = [epoch_of(batches, epoch) for epoch in range(3)]
    orders.append(epoch_of(BucketedSentenceBatches(ids, 8, 20, shuffle_seed=6), 0))
    assert all(one != other for one, other in itertools.combinations(orders, 2))
    # The batches of a pool are shuffled, so that long sentences do not come first.
    widths = [len(batch[0]) for batch in orders[0]]
    assert widths != sorted(widths, reverse=True)
    # Not only the order of batches changes: sentences are grouped differently.
    as_sets = [{str(batch) for batch in order} for order in orders]
    assert len(as_sets[0] & as_sets[1]) < len(as_sets[0]) / 2


@pytest.mark.parametrize("seed", [None, 3])
def test_a_second_length_orders_sequences_of_the_same_length(seed: int | None) -> None:
    lengths, ties = np.array([2, 3, 2, 3, 2, 3]), np.array([5, 1, 7, 2, 6, 3])
    batches = bucket_by_length(lengths, 3, seed, 0, ties)
    assert sorted(batch.tolist() for batch in batches) == [[2, 4, 0], [5, 3, 1]]


def test_without_a_seed_every_epoch_is_the_same() -> None:
    batches = BucketedSentenceBatches(joined(sentences_of(100, longest=9)), 8, 20)
    assert epoch_of(batches, 0) == epoch_of(batches, 7)
    widths = [len(batch[0]) for batch in epoch_of(batches, 0)]
    assert widths == sorted(widths, reverse=True)


def test_ids_may_be_mapped_from_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", joined(sentences_of(20, longest=5)))
    ids = np.load(tmp_path / "ids.npy", mmap_mode="r")
    for batches in (StreamBatches(ids, 2, 4), BucketedSentenceBatches(ids, 2, 4, 1)):
        assert sum(batch.num_targets for batch in batches.epoch(0)) == len(ids)


# From settings


def test_settings_of_a_stream() -> None:
    ids = stream_of(100)
    settings = BatchesConfig(mode=Mode.stream, batch_size=5, eval_batch_size=2, bptt_length=10)
    train = build_batches(ids, settings, train=True, seed=1, split="train")
    valid = build_batches(ids, settings, train=False, seed=1, split="valid")
    assert isinstance(train, StreamBatches) and isinstance(valid, StreamBatches)
    assert (train.batch_size, len(train)) == (5, 2)
    assert (valid.batch_size, len(valid)) == (2, 5)
    random_start = dataclasses.replace(settings, random_start=True)
    epochs = {}
    for name, is_train in (("train", True), ("valid", False)):
        batches = build_batches(ids, random_start, is_train, seed=1, split=name)
        epochs[name] = [columns(list(batches.epoch(epoch)))[1].tolist() for epoch in (0, 1)]
    assert epochs["train"][0] != epochs["train"][1]
    assert epochs["valid"][0] == epochs["valid"][1] == columns(list(valid.epoch(0)))[1].tolist()
    # Even the shortest text can be evaluated.
    tiny = build_batches(ids[:1], settings, train=False, seed=1, split="test")
    assert [batch.num_targets for batch in tiny.epoch(0)] == [1]


def test_settings_of_sentences() -> None:
    ids = joined(sentences_of(40, longest=9))
    settings = BatchesConfig(mode=Mode.sentence, batch_size=8, eval_batch_size=4, bptt_length=3)
    train = build_batches(ids, settings, train=True, seed=1, split="train")
    valid = build_batches(ids, settings, train=False, seed=1, split="valid")
    assert isinstance(train, BucketedSentenceBatches) and isinstance(valid, BucketedSentenceBatches)
    expected = epoch_of(BucketedSentenceBatches(ids, 8, 3, 1), 0)
    assert epoch_of(train, 0) == expected != epoch_of(train, 1)
    expected = epoch_of(BucketedSentenceBatches(ids, 4, 3), 0)
    assert epoch_of(valid, 0) == expected == epoch_of(valid, 1)


@pytest.mark.parametrize(
    ("mode", "train", "ids", "words"),
    [
        (Mode.stream, True, stream_of(49), ["train has 49 tokens", "batches.bptt_length=10", "50"]),
        (Mode.stream, False, stream_of(0), ["train has 0 tokens"]),
        (Mode.sentence, True, joined([[10, EOS_ID]] * 4), ["batches.batch_size=5", "sentences"]),
    ],
)
def test_too_little_text(mode: Mode, train: bool, ids: np.ndarray, words: list[str]) -> None:  # type: ignore[type-arg]
    settings = BatchesConfig(mode=mode, batch_size=5, eval_batch_size=5, bptt_length=10)
    error_of(lambda: build_batches(ids, settings, train=train, seed=1, split="train"), *words)


def test_just_enough_text() -> None:
    for mode, ids in ((Mode.stream, stream_of(50)), (Mode.sentence, joined([[10, EOS_ID]] * 5))):
        settings = BatchesConfig(mode=mode, batch_size=5, eval_batch_size=5, bptt_length=10)
        assert len(build_batches(ids, settings, True, 1, "train")) == 1


def test_a_batch_on_the_cpu_stays_where_it_is() -> None:
    (batch,) = StreamBatches(stream_of(6), 2, 3).epoch(0)
    assert batch.to(torch.device("cpu")) is batch


@pytest.mark.parametrize(("max_tokens", "sizes"), [(1, [1] * 5), (9, [2, 2, 1]), (99, [5])])
def test_parts_of_a_batch(max_tokens: int, sizes: list[int]) -> None:
    sequences = [np.arange(4, 4 + length) for length in (4, 3, 3, 2, 1)]
    targets = torch.arange(5)
    (batch,) = ExampleBatches(sequences, lambda rows: (targets[rows], 5), batch_size=5).epoch(0)
    parts = list(batch.parts(max_tokens))
    assert [len(part.inputs) for part in parts] == sizes
    for name in ("inputs", "targets", "lengths", "rows"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(batch, name))
    assert {part.num_targets for part in parts} == {5}


def test_parts_of_a_batch_with_long_targets() -> None:
    sequences, targets = [np.arange(4, 6)] * 4, torch.ones(4, 10, dtype=torch.int64)
    (batch,) = ExampleBatches(sequences, lambda rows: (targets[rows], 40), batch_size=4).epoch(0)
    assert [len(part.inputs) for part in batch.parts(20)] == [2, 2]


def test_a_batch_with_a_state_has_one_part() -> None:
    (batch,) = StreamBatches(stream_of(6), 2, 3).epoch(0)
    (part,) = batch.parts(1)
    assert torch.equal(part.inputs, batch.inputs) and part.lengths is None


def test_predictions_of_long_sequences_are_made_in_parts() -> None:
    sequences = [np.arange(10_000), np.arange(9_000), *[np.arange(3)] * 70]
    results = [(rows.tolist(), inputs.shape) for rows, inputs, _ in padded_batches(sequences)]
    assert [shape for _, shape in results] == [(1, 10_000), (1, 9_000), (62, 3), (8, 3)]
    assert sorted(row for rows, _ in results for row in rows) == list(range(72))


@pytest.mark.gpu
def test_a_batch_on_the_gpu_is_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    (batch,) = BucketedSentenceBatches(joined([[10, EOS_ID], [EOS_ID]]), 2, 9).epoch(0)
    there = batch.to(torch.device("cuda"))
    assert there.inputs.is_cuda and there.targets.is_cuda
    assert there.lengths is not None and not there.lengths.is_cuda
    assert torch.equal(there.inputs.cpu(), batch.inputs)
    assert torch.equal(there.targets.cpu(), batch.targets)


# --- several processes ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.value)
def test_shares_make_up_the_whole(mode: Mode, size: int) -> None:
    """Each row belongs to one process, every token is predicted once, and sizes are global."""
    stream = np.array([4, 5, 6, EOS_ID, 7, EOS_ID] * 7, dtype=np.uint16)
    config = BatchesConfig(mode=mode, batch_size=3, eval_batch_size=3, bptt_length=3)
    whole = build_batches(stream, config, True, 1, "train")
    shares = [RankBatches(whole, rank, size) for rank in range(size)]
    for share in shares:
        assert (len(share), share.num_targets) == (len(whole), whole.num_targets)
        assert (share.carries_state, share.batch_size) == (whole.carries_state, whole.batch_size)
    parts = zip(*(share.epoch(1, 2) for share in shares), strict=True)
    for batch, mine in zip(whole.epoch(1, 2), parts, strict=True):
        for rank, part in enumerate(mine):
            rows = slice(rank, None, size)
            lengths = None if batch.lengths is None else batch.lengths[rows]
            share = Batch(batch.inputs[rows], batch.targets[rows], lengths, batch.num_targets)
            check_same([part], [share])


# Ids on a device


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize(
    "size, batch_size, length", [(1, 4, 3), (7, 2, 2), (50, 4, 5), (53, 5, 60)]
)
def test_a_device_makes_the_same_stream(
    size: int, batch_size: int, length: int, seed: int | None
) -> None:
    """The CPU stands for the GPU: the same operators, and the host never reads ids."""
    ids = stream_of(size)
    host = StreamBatches(ids, batch_size, length, shuffle_seed=seed)
    device = StreamBatches(ids, batch_size, length, torch.device("cpu"), seed)
    assert len(host) == len(device)
    check_same(list(host.epoch(0)), list(device.epoch(0)))
    check_same(list(host.epoch(0, 1)), list(device.epoch(0, 1)))


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("max_length", [3, 100])
def test_a_device_makes_the_same_sentences(seed: int | None, max_length: int) -> None:
    ids = joined(sentences_of(40, 9))
    host = BucketedSentenceBatches(ids, 6, max_length, seed)
    device = BucketedSentenceBatches(ids, 6, max_length, seed, torch.device("cpu"))
    for epoch in (0, 1):
        check_same(list(host.epoch(epoch)), list(device.epoch(epoch)))
    share = RankBatches(device, 1, 2).epoch(0)
    check_same([batch.for_rank(1, 2) for batch in host.epoch(0)], list(share))


def test_a_device_is_not_waited_for() -> None:
    """No operator makes the host wait for the GPU."""
    seen: set[str] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.add(func.name())
            return func(*args, **(kwargs or {}))

    cpu, ids = torch.device("cpu"), joined(sentences_of(40, 9))
    for batches in (StreamBatches(ids, 4, 5, cpu, 1), BucketedSentenceBatches(ids, 6, 5, 1, cpu)):
        with Watch():
            list(batches.epoch(0))
    assert "aten::index.Tensor" in seen
    assert not seen & {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"}


def check_same(batches: list[Batch], others: list[Batch]) -> None:
    for one, other in zip(batches, others, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        assert one.inputs.dtype == other.inputs.dtype == other.targets.dtype == torch.int64
        assert one.num_targets == other.num_targets
        assert (one.lengths is None) == (other.lengths is None)
        if one.lengths is not None and other.lengths is not None:
            assert torch.equal(one.lengths, other.lengths)


def test_a_gpu_keeps_ids_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[torch.device | None] = []
    monkeypatch.setattr(batches_module, "_Rows", lambda ids, device: devices.append(device))
    ids = np.append(stream_of(99), EOS_ID)
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    for mode in (Mode.stream, Mode.sentence):
        config = BatchesConfig(mode=mode, batch_size=1, bptt_length=10)
        for limit, device in ((400, cuda), (399, cuda), (400, cpu), (400, None)):
            monkeypatch.setattr(batches_module, "MAX_DEVICE_BYTES", limit)
            build_batches(ids, config, False, 1, "train", device)
    assert devices == [cuda, None, None, None] * 2
