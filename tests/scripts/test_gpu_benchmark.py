"""scripts/bench/gpu.py runs on a CPU with small sizes."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

SCRIPT = ROOT / "scripts" / "bench" / "gpu.py"


def test_small_sizes_on_a_cpu(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout
    result = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert len(result["checks"]) == 6 and all(result["checks"].values())
    names = {row["name"] for row in result["rows"]}
    assert {"korlm fp32", "AWD-LSTM bf16", "korlm bf16 transformer"} < names
    for row in result["rows"]:
        if "error" not in row:
            assert row["tokens_per_second"] > 0 and row["peak_memory_mb"] is None, row
        else:
            assert row["error"] == "skipped: this CPU has no LSTM in bf16"
        assert f"{row['name']} " in done.stdout


def test_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    message = "PyTorch finds no GPU; use --device cpu --small to try the script\n"
    assert capsys.readouterr().err.endswith(message)
    assert list(tmp_path.iterdir()) == []
