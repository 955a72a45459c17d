"""Tables for the terminal: one line per row, numbers in their columns."""

from __future__ import annotations

import numpy as np
from texts import random_nats, random_text, result_of, toy_run

from korlm.config import BootstrapConfig
from korlm.evaluation.evaluate import Metrics, compare, summarize
from korlm.evaluation.modes import ModeResult
from korlm.evaluation.output.tables import (
    comparison_table,
    frequency_table,
    interval_note,
    paired_test_table,
    runs_table,
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
