"""Statistics of a small corpus, computed by hand, and their files."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from corpora import prepare_corpus, random_lines

from korlm.config import VocabConfig
from korlm.dataset.prepared import Prepared, open_prepared
from korlm.dataset.statistics import collect as station
from korlm.dataset.statistics.collect import (
    Coverage,
    collect,
    fit_heaps,
    fit_power_law,
    fit_zipf,
    write,
)
from korlm.utils.errors import PreparedError

TRAIN = ["나 간다", "", "나 온다 또", "나 간다", "나 간다", "너 온다"]
VALID = ["나 간다", "그 가 간다 또 온다", "나 간다"]


@pytest.fixture
def small(tmp_path: Path) -> Prepared:
    return prepare_corpus(tmp_path, train=TRAIN, valid=VALID)


def test_by_hand(small: Prepared) -> None:
    result, frequencies = collect(small)
    assert frequencies.tolist() == [4, 3, 2, 1, 1]
    train, valid = result["splits"]["train"], result["splits"]["valid"]
    assert train == {
        "num_lines": 6,
        "num_blank_lines": 1,
        "num_sentences": 5,
        "num_eojeol": 11,
        "num_morphs": 11,
        "num_chars": 4 * 5 + 7,
        "num_types": 5,
        "num_hapaxes": 2,
        "type_token_ratio": 5 / 11,
        "morphs_per_line": {"mean": 2.2, "median": 2.0, "max": 3},
        "num_duplicate_lines": 2,
        "duplicate_share": 0.4,
        "status": {"empty": 1, "ok": 5},
        "num_dropped": 0,
        "longest_lines": [
            {"num_chars": 6, "num_morphs": 3, "doc_id": "train.txt", "line": 3},
            *(
                {"num_chars": 4, "num_morphs": 2, "doc_id": "train.txt", "line": line}
                for line in (1, 4, 5, 6)
            ),
        ],
        "types": [{"num_morphs": 11, "num_types": 5}],
    }
    # Every line that train contains counts, repetitions included.
    assert valid["num_lines_in_train"] == 2
    assert valid["lines_in_train_share"] == pytest.approx(2 / 3)
    assert valid["morphs_in_train_share"] == pytest.approx(4 / 9)
    assert valid["num_duplicate_lines"] == 1
    assert result["repeated_lines"] == [
        {"count": 3, "doc_id": "train.txt", "line": 1, "text": "나 간다"}
    ]
    assert result["ranks"] == [
        {"rank": rank, "morph": morph, "count": count}
        for rank, (morph, count) in enumerate(
            [("나", 4), ("간다", 3), ("온다", 2), ("너", 1), ("또", 1)], 1
        )
    ]
    # 12 tokens with <eos>; 그 가 또 are unknown if a token must occur twice in train.
    unknown = result["unknown"]
    assert (unknown["split"], unknown["num_tokens"]) == ("valid", 12)
    assert unknown["chosen"] == {"size": 3, "num_unk": 3, "rate": 0.25}
    assert [(row["size"], row["num_unk"]) for row in unknown["by_min_freq"]] == [
        *((5, 2), (3, 3), (2, 4), (1, 7), (0, 9))
    ]
    assert [(row["size"], row["num_unk"]) for row in unknown["by_size"]] == [(5, 2)]
    assert result["heaps"] is None and result["zipf"]["slope"] < 0
    assert result["fingerprint"] == small.fingerprint and result["tokenizer"] == "eojeol"


@pytest.mark.parametrize(("unicode", "count"), [("nfc", 0), ("nfkc", 1)])
def test_lines_are_compared_in_the_form_of_the_corpus(
    tmp_path: Path, unicode: str, count: int
) -> None:
    prepared = prepare_corpus(tmp_path, train=["ABC 가", "ＡＢＣ 가"], valid=["㎏", "Ａ", "A​"])
    prepared.manifest["settings"]["corpus"]["unicode"] = unicode
    train, valid = collect(prepared)[0]["splits"].values()
    assert train["num_duplicate_lines"] == count
    assert valid["num_duplicate_lines"] == count
    assert valid["longest_lines"][0]["num_chars"] == 1


def test_medians_and_repeated_lines_of_a_larger_corpus(tmp_path: Path) -> None:
    train = random_lines(3, 501)
    actual, _ = collect(
        prepare_corpus(tmp_path, train=train, valid=random_lines(4, 20), test=train[:9])
    )
    filled = [line for line in train if line]
    lengths = [len(line.split()) for line in filled]
    assert actual["splits"]["train"]["morphs_per_line"] == {
        "mean": pytest.approx(np.mean(lengths)),
        "median": np.median(lengths),
        "max": max(lengths),
    }
    expected = Counter(filled).most_common(station.NUM_REPEATED)  # ties: the first ones
    assert [(row["text"], row["count"]) for row in actual["repeated_lines"]] == expected
    assert [row["line"] for row in actual["repeated_lines"]] == [
        train.index(text) + 1 for text, _ in expected
    ]
    assert actual["splits"]["test"]["lines_in_train_share"] == 1
    assert actual["unknown"]["by_size"][0]["size"] == 100


def test_files(small: Prepared) -> None:
    before = sorted(path.name for path in small.folder.iterdir())
    result, frequencies = collect(small)
    for _ in range(2):
        write(small, result, frequencies)
        names = sorted(path.name for path in small.folder.iterdir())
        assert names == sorted([*before, "statistics.json", "frequencies.png"])
    stored = json.loads((small.folder / "statistics.json").read_text(encoding="utf-8"))
    assert stored == result
    assert (small.folder / "frequencies.png").read_bytes().startswith(b"\x89PNG")
    assert open_prepared(small.folder).stats == small.stats


@pytest.mark.parametrize("reason", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written(
    small: Prepared, reason: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, figures: object) -> None:
        raise OSError(reason, os.strerror(reason), str(path))

    monkeypatch.setattr(station, "write_json", refuse)
    before = sorted(small.folder.iterdir())
    with caplog.at_level(logging.INFO):
        write(small, *collect(small))
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "\n" not in record.getMessage()
    assert str(small.folder) in record.getMessage() and "not saved" in record.getMessage()
    assert sorted(small.folder.iterdir()) == before


def test_deleted_shards(small: Prepared) -> None:
    (small.folder / "tokens" / "valid-00000.parquet").unlink()
    with pytest.raises(PreparedError, match=r"0 lines of valid, .* 3; give report=false"):
        collect(small)
    shutil.rmtree(small.folder / "tokens")
    with pytest.raises(PreparedError, match=r"0 lines of train, .* 6; give report=false"):
        collect(small)


@pytest.mark.parametrize("slope", [-1.3, -0.5, 0.6])
def test_an_exact_law_is_recovered(slope: float) -> None:
    x = np.arange(1, 200)
    law = fit_power_law(x, 40 * x**slope, 1 / x)
    assert law is not None
    assert (law.slope, law.scale, law.r_squared) == pytest.approx((slope, 40, 1))


def test_fits_as_numpy_fits() -> None:
    frequencies = np.sort(np.random.default_rng(1).zipf(1.7, 500))[::-1]
    ranks = np.arange(1, 501)
    slope, height = np.polyfit(np.log(ranks), np.log(frequencies), 1, w=ranks**-0.5)
    law = fit_zipf(frequencies)
    assert law is not None
    assert (law.slope, law.scale) == pytest.approx((slope, np.exp(height)))
    assert 0.5 < law.r_squared < 1
    law = fit_heaps([(100, 50), (200, 80), (500, 130)])
    slope, height = np.polyfit(np.log([100, 200, 500]), np.log([50, 80, 130]), 1)
    assert law is not None
    assert (law.slope, law.scale) == pytest.approx((slope, np.exp(height)))


def test_too_few_points() -> None:
    assert fit_zipf([]) is None and fit_zipf([5]) is None
    assert fit_heaps([(7, 2)]) is None
    flat = fit_zipf([3, 3, 3])
    assert flat is not None
    assert (flat.slope, flat.r_squared) == pytest.approx((0, 1))


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("numbers", [False, True])
def test_unknown_as_prepared_corpora_count_them(tmp_path: Path, lower: bool, numbers: bool) -> None:
    splits = {"train": random_lines(1, 150), "valid": random_lines(2, 60)}
    counts = {
        split: Counter(token for line in lines for token in line.split())
        for split, lines in splits.items()
    }
    same = {"lowercase": lower, "normalize_numbers": numbers}
    coverage = Coverage(counts["train"], counts["valid"], VocabConfig(min_freq=9, **same))
    seen = set()
    for config in (
        *(VocabConfig(min_freq=n, **same) for n in (1, 2, 3, 5)),
        *(VocabConfig(min_freq=1, max_size=n, **same) for n in (1, 7, 30)),
    ):
        prepared = prepare_corpus(tmp_path, config, **splits)
        size = len(prepared.vocab) - 4
        num_unk = prepared.stats["valid"].num_unk
        assert coverage.num_unknown(size) == num_unk
        seen.add(num_unk)
        if config.max_size is None:
            assert coverage.size_of(config.min_freq) == size
    assert len(seen) == 7
    assert coverage.num_unknown(0) == counts["valid"].total()
    assert coverage.num_unknown(10**9) == min(seen)
    assert coverage.size_of(10**9) == 0
    row = coverage.row(7, 1000)
    assert row == {"size": 7, "num_unk": coverage.num_unknown(7), "rate": row["num_unk"] / 1000}
