"""The scan of a split equals a loop over its lines."""

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from corpora import prepare_corpus, random_lines

from korlm.config import VocabConfig
from korlm.corpus.normalization import normalize
from korlm.dataset import text_batches
from korlm.dataset.statistics import scan as splits
from korlm.dataset.statistics.scan import (
    LongLine,
    SplitScan,
    hash_lines,
    lines_at,
    marks,
    scan_split,
)
from korlm.dataset.storage import piece_writer
from korlm.dataset.storage.shards import shard_paths


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piece_writer, "ROW_GROUP_CHARS", 900)
    monkeypatch.setattr(text_batches, "BATCH_CHARS", 300)


def test_a_split_as_seen_line_by_line(tmp_path: Path) -> None:
    train = [normalize(line) for line in random_lines(1, 700)]
    valid = [normalize(line) for line in random_lines(2, 60)]
    valid += train[::50]
    tokens = prepare_corpus(tmp_path, piece_mb=0.005, train=train, valid=valid).folder / "tokens"
    assert len(shard_paths(tokens, "train")) > 2
    scan = scan_split(tokens, "train")

    filled = [(number, line) for number, line in enumerate(train, 1) if line]
    morphs = [token for _, line in filled for token in line.split()]
    assert scan.counts == Counter(morphs)
    assert list(scan.counts) == list(dict.fromkeys(morphs))
    points = [*marks(1, len(morphs)), len(morphs)]
    assert points[:3] == [100, 200, 500] and len(points) > 4
    assert scan.growth == [(n, len(set(morphs[:n]))) for n in points]
    assert scan.line_lengths == Counter(len(line.split()) for _, line in filled)
    assert len(np.unique(scan.hashes())) == len({line for _, line in filled})
    assert len(scan.hashes()) == len(filled)
    by_length = sorted(filled, key=lambda row: -len(row[1]))[: splits.NUM_LONGEST]
    assert scan.longest == [
        LongLine(len(line), len(line.split()), "train.txt", number) for number, line in by_length
    ]
    assert (scan.num_in_train, scan.num_morphs_in_train) == (0, 0)

    leaked = [line for line in valid if line and line in set(train)]
    actual = scan_split(tokens, "valid", np.unique(scan.hashes()))
    assert actual.num_in_train == len(leaked) > 10
    assert actual.num_morphs_in_train == sum(len(line.split()) for line in leaked)

    indices = [len(filled) - 1, 0, 333, 0]
    expected = [("train.txt", *filled[index]) for index in indices]
    assert lines_at(tokens, "train", indices) == expected
    assert lines_at(tokens, "train", []) == []


def scan_of(folder: Path, lines: list[str]) -> SplitScan:
    config = VocabConfig(min_freq=1)
    prepared = prepare_corpus(folder, config, train=lines, valid=["가"])
    return scan_split(prepared.folder / "tokens", "train", np.array([7]))


def test_nothing_but_blank_lines(tmp_path: Path) -> None:
    """Whole row groups may consist of blank lines."""
    scan = scan_of(tmp_path, [*[""] * 2000, "가 가", *["\t"] * 2000])
    assert (scan.growth, scan.longest) == ([(2, 1)], [LongLine(3, 2, "train.txt", 2001)])
    assert (len(scan.hashes()), scan.counts, scan.line_lengths) == (1, {"가": 2}, {2: 1})
    (folder,) = (tmp_path / "outputs" / "prepared").iterdir()
    assert lines_at(folder / "tokens", "train", [0]) == [("train.txt", 2001, "가 가")]


def test_growth(tmp_path: Path) -> None:
    assert scan_of(tmp_path, ["가 나"] * 50).growth == [(100, 2)]  # a mark is the end
    growth = scan_of(tmp_path, [f"말{n}" for n in range(250)]).growth
    assert growth == [(100, 100), (200, 200), (250, 250)]


def test_equal_and_similar_lines(tmp_path: Path) -> None:
    scan = scan_of(tmp_path, ["한글", unicodedata.normalize("NFD", "한글")])
    assert len(np.unique(scan.hashes())) == 1 and {line.num_chars for line in scan.longest} == {2}
    scan = scan_of(tmp_path, ["가 나", "가  나", "가 나 ", "가 나"])
    assert len(np.unique(scan.hashes())) == 3
    assert hash_lines([]).shape == (0,)


def test_marks() -> None:
    assert list(marks(1, 99)) == []
    assert list(marks(101, 1000)) == [200, 500, 1000]
