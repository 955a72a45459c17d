"""What people read: a line for each row, numbers where they belong."""

from __future__ import annotations

import numpy as np
from texts import costs, judged_of, known_run, sentences_of

from korlm.config import BootstrapConfig
from korlm.evaluation.evaluate import Figures, compare, summarize
from korlm.evaluation.modes import ModeResult
from korlm.evaluation.output.tables import (
    bands_table,
    comparison_table,
    interval_note,
    paired_test_table,
    runs_table,
)

CONFIG = BootstrapConfig(samples=200)


def rows(num_docs: int = 25) -> dict[str, Figures]:
    text = sentences_of(600, num_docs)
    two = np.full(len(text.ids), np.log(2.0))
    chosen = {"weights": {"model": 0.75, "cache": 0.25}, "cache_size": 500, "theta": 0.2}
    never = np.where(np.arange(len(two)) == 0, 9e9, two)
    return compare(
        {
            "carried": judged_of(text, two),
            "cache": summarize(
                ModeResult(np.log([1.5] * len(two)), 1.0, chosen), text, known_run()
            ),
            "hopeless": judged_of(text, never),
            "foreign": judged_of(text, costs(text), known_run("나")),
        },
        CONFIG,
    )


def test_ways_of_one_model() -> None:
    lines = comparison_table(rows()).splitlines()
    assert len(lines) == 5
    assert lines[0].endswith("settings chosen on valid")
    assert lines[1].split()[:4] == ["carried", "2.00", "+0.0", "%"]
    assert lines[2].split()[:4] == ["cache", "1.50", "-25.0", "%"]
    assert lines[2].endswith("0.75 model + 0.25 cache, cache_size=500, theta=0.2")
    assert lines[3].split()[1] == "inf"


def test_runs() -> None:
    found = rows()
    lines = runs_table(found).splitlines()
    assert lines[1].split()[:4] == ["carried", "syllable", "600", "2.00"]
    low, high = found["carried"]["intervals"]["bits_per_char"]
    assert f"{low:.4f} to {high:.4f}" in lines[1]
    assert len({len(line) for line in lines}) == 1


def test_against_the_first() -> None:
    found = rows()
    head, cache, hopeless, foreign = paired_test_table(found).splitlines()
    assert head.startswith("against carried")
    difference = found["cache"]["against"]["bits_per_char"]["difference"]
    assert cache.split()[:2] == ["cache", f"{difference:+.4f}"]
    assert f"{np.log(0.75):+.4f}" in cache
    assert "0.0050" in cache  # 1 / 201: no pattern of signs came so far
    assert "hopeless" in hopeless
    assert len(foreign.split()) == 6  # no loss: other tokens


def test_bands() -> None:
    found = rows()["carried"]
    lines = bands_table(found).splitlines()
    filled = [band for band, part in found["bands"].items() if part["num_tokens"]]
    assert len(lines) == 1 + len(filled)
    assert lines[1].startswith("0 (unknown)")
    assert [line.split()[-3] for line in lines[1:]] == ["2.00"] * len(filled)


def test_what_the_intervals_stand_on() -> None:
    assert interval_note(rows()["carried"]) == "intervals: 200 draws of 25 documents"
    assert "so few: rather too narrow" in interval_note(rows(3)["carried"])
    assert "sentences; they are one document" in interval_note(rows(1)["carried"])
    text = sentences_of(600, 60)
    blocks = compare({"a": judged_of(text, costs(text))}, BootstrapConfig(samples=100, block=2))
    assert interval_note(blocks["a"]) == "intervals: 100 draws of 30 blocks of 2 documents"
