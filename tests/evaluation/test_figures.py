"""The figures of one reading, and their file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from korlm.dataset.prepared import SplitStats
from korlm.evaluation.evaluate import compute_metrics
from korlm.evaluation.modes import ModeResult
from korlm.utils.io.atomic_files import write_figures

COUNTS = SplitStats(
    num_tokens=4, num_unk=1, num_eojeol=2, num_chars=10, num_lines=1, spelling_nats=3.0
)
IDS = np.array([5, 1, 6, 3], dtype=np.uint16)


def test_figures() -> None:
    found = compute_metrics(
        ModeResult(np.array([1.0, 5.0, 2.0, 4.0]), 2.0, {"theta": 0.2}), IDS, COUNTS
    )
    assert found["loss"] == 3.0
    assert found["perplexity"] == pytest.approx(np.exp(3))
    assert found["perplexity_known"] == pytest.approx(np.exp(7 / 3))
    assert found["bits_per_char"] == pytest.approx((12 + 3) / np.log(2) / 10)
    assert found["tokens_per_second"] == 2.0
    assert found["settings"] == {"theta": 0.2}


def test_file(tmp_path: Path) -> None:
    settings = {"weights": {"model": 0.75, "cache": 0.25}, "cache_size": 500, "theta": 0.2}
    rows = {
        "cache": compute_metrics(ModeResult(np.log([1.5] * 4), 1.0, settings), IDS, COUNTS),
        "hopeless": compute_metrics(
            ModeResult(np.array([1.0, 9e9, 1.0, 1.0]), 1.0, {}), IDS, COUNTS
        ),
    }
    rows["hopeless"]["interval"] = [float("nan"), 1.0]
    write_figures(tmp_path / "metrics.json", {"valid": rows})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    found = json.loads((tmp_path / "metrics.json").read_text("utf-8"))["valid"]
    assert found["hopeless"]["perplexity"] is None
    assert found["hopeless"]["interval"] == [None, 1.0]
    assert found["cache"] == {**rows["cache"], "peak_memory_mb": found["cache"]["peak_memory_mb"]}
