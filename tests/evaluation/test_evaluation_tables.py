"""Tables of the evaluation: modes, runs, tests, frequency, and TSV files of breakdowns."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from texts import random_nats, random_text, result_of, toy_run

from korlm.config import BootstrapConfig
from korlm.evaluation.evaluate import Metrics, compare, summarize
from korlm.evaluation.modes import ModeResult
from korlm.evaluation.tables import (
    comparison_table,
    frequency_table,
    interval_note,
    paired_test_table,
    runs_table,
    write_breakdowns,
)

CONFIG = BootstrapConfig(samples=200)


def rows(num_docs: int = 25) -> dict[str, Metrics]:
    text = random_text(600, num_docs)
    two = np.full(len(text.ids), np.log(2.0))
    chosen = {"weights": {"model": 0.75, "cache": 0.25}, "cache_size": 500, "flatness": 0.2}
    infinite = np.where(np.arange(len(two)) == 0, 9e9, two)
    return compare(
        {
            "carried": result_of(text, two),
            "cache": summarize(ModeResult(np.log([1.5] * len(two)), 1.0, chosen), text, toy_run()),
            "overflow": result_of(text, infinite),
            "foreign": result_of(text, random_nats(text), toy_run("나")),
        },
        CONFIG,
    )


def test_modes_of_one_run() -> None:
    lines = comparison_table(rows()).splitlines()
    assert len(lines) == 5
    assert lines[0].endswith("settings chosen on valid")
    assert lines[1].split()[:4] == ["carried", "2.00", "+0.0", "%"]
    assert lines[2].split()[:4] == ["cache", "1.50", "-25.0", "%"]
    assert lines[2].endswith("0.75 model + 0.25 cache, cache_size=500, flatness=0.2")
    assert lines[3].split()[1] == "inf"


def test_runs() -> None:
    metrics = rows()
    lines = runs_table(metrics).splitlines()
    assert lines[1].split()[:4] == ["carried", "syllable", "600", "2.00"]
    low, high = metrics["carried"]["intervals"]["bits_per_char"]
    assert f"{low:.4f} to {high:.4f}" in lines[1]
    assert len({len(line) for line in lines}) == 1


def test_against_the_first() -> None:
    metrics = rows()
    head, cache, overflow, foreign = paired_test_table(metrics).splitlines()
    assert head.startswith("against carried")
    difference = metrics["cache"]["against"]["bits_per_char"]["difference"]
    assert cache.split()[:2] == ["cache", f"{difference:+.4f}"]
    assert f"{np.log(0.75):+.4f}" in cache
    assert "0.0050" in cache  # 1 / 201: no random sign pattern reached it
    assert "overflow" in overflow
    assert len(foreign.split()) == 6  # no loss: another vocabulary


def test_frequency_bins() -> None:
    row = rows()["carried"]
    lines = frequency_table(row).splitlines()
    filled = [band for band, part in row["bands"].items() if part["num_tokens"]]
    assert len(lines) == 1 + len(filled)
    assert lines[1].startswith("0 (unknown)")
    assert [line.split()[-3] for line in lines[1:]] == ["2.00"] * len(filled)


def test_interval_note() -> None:
    assert interval_note(rows()["carried"]) == "intervals: 200 resamples of 25 documents"
    assert "few units: probably too narrow" in interval_note(rows(3)["carried"])
    assert "sentences; sentences of one document are not independent" in interval_note(
        rows(1)["carried"]
    )
    text = random_text(600, 60)
    blocks = compare(
        {"a": result_of(text, random_nats(text))}, BootstrapConfig(samples=100, block=2)
    )
    assert interval_note(blocks["a"]) == "intervals: 100 resamples of 30 blocks of 2 documents"
    config = BootstrapConfig(samples=100, block=60)
    single = compare({"a": result_of(text, random_nats(text))}, config)
    assert interval_note(single["a"]).endswith("; a single unit has no interval")


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_all_three(tmp_path: Path) -> None:
    text = dataclasses.replace(random_text(400), doc_ids=["가", "나\t나", '"다', "라", "마"])
    nats = random_nats(text)
    infinite = np.where(np.arange(len(nats)) == 0, np.inf, nats)
    results = {"valid": {"a": result_of(text, nats), "b": result_of(text, infinite)}}
    results["test"] = {"a": results["valid"]["a"]}
    write_breakdowns(tmp_path, results)
    assert {p.name for p in tmp_path.iterdir()} == {"documents.tsv", "bands.tsv", "positions.tsv"}
    documents = rows_of(tmp_path / "documents.tsv")
    assert len(documents) == 3 * 5
    assert [row["doc_id"] for row in documents[:5]] == ["가", r"나\t나", '"다', "라", "마"]
    assert documents[5]["perplexity"] == "inf"
    rows_of_a = [row for row in documents if (row["text"], row["row"]) == ("valid", "a")]
    metrics = results["valid"]["a"].metrics
    for key in ("num_tokens", "num_unk", "num_eojeol", "num_chars"):
        assert sum(int(row[key]) for row in rows_of_a) == metrics[key]
    nats_again = sum(float(row["loss"]) * int(row["num_tokens"]) for row in rows_of_a)
    assert nats_again == pytest.approx(nats.sum(), rel=1e-4)
    for row in rows_of_a:
        assert math.log(float(row["perplexity"])) == pytest.approx(float(row["loss"]), abs=1e-4)
    for key, name in (("bands", "band"), ("positions", "position")):
        rows = rows_of(tmp_path / f"{key}.tsv")
        groups = metrics[key]
        assert [row[name] for row in rows[: len(groups)]] == list(groups)
        for row in rows[: len(groups)]:
            assert int(row["num_tokens"]) == groups[row[name]]["num_tokens"]
            assert float(row["nats"]) == pytest.approx(groups[row[name]]["nats"], rel=1e-4)
