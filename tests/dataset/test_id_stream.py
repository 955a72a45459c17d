"""A stream of several arrays is read like one array."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

from korlm.dataset.batches import BucketedSentenceBatches, StreamBatches, sentence_bounds
from korlm.dataset.storage.id_stream import IdStream, blocks_of, join_shards, map_shard, rows_of
from korlm.dataset.vocab import EOS_ID


def cut(ids: np.ndarray, rng: random.Random, num_shards: int) -> IdStream:
    """Return the ids as a number of shards, some of which may be empty."""
    cuts = sorted(rng.choices(range(len(ids) + 1), k=num_shards - 1))
    return IdStream(np.split(ids, cuts))


@pytest.mark.parametrize("seed", range(10))
def test_every_range_is_that_of_one_array(seed: int) -> None:
    rng = random.Random(seed)
    ids = np.random.default_rng(seed).integers(3, 9, 50).astype(np.uint16)
    stream = cut(ids, rng, rng.randint(2, 12))
    assert len(stream) == 50 and stream.dtype == ids.dtype
    for begin in range(-2, 53):
        for end in range(begin, 53):
            assert stream[begin:end].tolist() == ids[begin:end].tolist()
    assert np.array_equal(stream, ids) and np.concatenate(list(blocks_of(stream))).size == 50
    assert np.asarray(stream, dtype=np.int64).dtype == np.int64
    starts = np.array([rng.randrange(-3, 49) for _ in range(30)])
    rows, expected = rows_of(stream, starts, 4), rows_of(ids, starts, 4)
    index = starts[:, None] + np.arange(4)
    is_inside = (index >= 0) & (index < 50)
    assert (rows == expected)[is_inside].all() and (expected == ids[index % 50])[is_inside].all()


def test_a_range_is_a_view_within_a_shard() -> None:
    shards = [np.array([4, 5, 3]), np.array([6, 3])]
    stream = IdStream(shards)
    assert np.shares_memory(stream[1:3], shards[0]) and np.shares_memory(stream[3:5], shards[1])
    assert join_shards(shards[:1]) is shards[0]
    with pytest.raises(ValueError, match="step 1"):
        stream[::2]


def test_a_stream_cannot_be_an_array_without_a_copy() -> None:
    stream = IdStream([np.arange(3), np.arange(2)])
    assert np.asarray(stream).tolist() == stream.__array__(copy=None).tolist() == [0, 1, 2, 0, 1]
    assert stream.__array__(copy=True).tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(ValueError, match="copy"):
        stream.__array__(copy=False)


def test_shards_of_several_dtypes_are_no_stream() -> None:
    with pytest.raises(ValueError, match="uint16, uint32"):
        IdStream([np.zeros(1, np.uint16), np.array([70_000], np.uint32)])


def test_shards_are_mapped_without_open_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for ids in (np.arange(1000, dtype=np.uint16), np.arange(0, dtype=np.uint32)):
        np.save(path, ids)
        shard = map_shard(path)
        assert shard.dtype == ids.dtype and np.array_equal(shard, ids)
        assert not shard.flags.writeable
    if Path("/proc/self/fd").is_dir():
        before = len(os.listdir("/proc/self/fd"))
        shards = [map_shard(path) for _ in range(10)]
        assert len(os.listdir("/proc/self/fd")) == before and len(shards) == 10


def test_a_damaged_shard(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(1000, dtype=np.uint16))
    data = path.read_bytes()
    for damaged in (data[:-1], data[:-500], data[:50], data[1:], b""):
        path.write_bytes(damaged)
        with pytest.raises((OSError, ValueError)):
            map_shard(path)


@pytest.mark.parametrize("seed", range(10))
def test_batches_are_those_of_one_array(seed: int) -> None:
    rng = random.Random(seed)
    ids = np.random.default_rng(seed).choice([EOS_ID, 4, 5, 6, 7], 200).astype(np.uint16)
    stream = cut(ids, rng, 7)
    bounds = zip(sentence_bounds(stream), sentence_bounds(ids), strict=True)
    assert all(np.array_equal(*pair) for pair in bounds)
    for kind, sizes in ((StreamBatches, (7, 5)), (BucketedSentenceBatches, (7, 3))):
        batches = zip(kind(stream, *sizes).epoch(0), kind(ids, *sizes).epoch(0), strict=True)
        for ours, expected in batches:
            assert ours.inputs.equal(expected.inputs) and ours.targets.equal(expected.targets)
