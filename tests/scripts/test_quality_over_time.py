"""scripts/bench/quality_over_time.py plots korlm's runs beside other implementations."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

SCRIPT = ROOT / "scripts" / "bench" / "quality_over_time.py"


def test_table_and_plot(tiny_run: Callable[[str], Any], tmp_path: Path) -> None:
    run = tiny_run("lstm").folder
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # No minutes: each of the others ends at its first validation.
    command = [sys.executable, str(SCRIPT), str(run), "--minutes", "0"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    header, _, *rows = done.stdout.splitlines()
    assert header == "| minutes | 5 | 15 | 30 | 60 |"
    names = [row.split(" | ")[0] for row in rows]
    assert names == [f"| korlm, {run.name}", "| word_language_model", "| AWD-LSTM"]
    assert (tmp_path / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_best_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    best_after = runpy.run_path(str(SCRIPT))["best_after"]
    points = [(4.0, 90.0), (9.0, 70.0), (14.0, 71.0)]
    assert [best_after(points, minutes) for minutes in (3, 5, 15, 30)] == ["-", "90.0", "70.0", "-"]
