"""scripts/bench/gpu.py runs on a CPU with small sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "bench" / "gpu.py"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_small_sizes_on_a_cpu(tmp_path: Path) -> None:
    done = run(tmp_path, "--device", "cpu", "--small")
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout
    result = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert len(result["checks"]) == 6 and all(result["checks"].values())
    names = {row["name"] for row in result["rows"]}
    assert {"korlm fp32", "AWD-LSTM bf16", "korlm bf16 transformer"} < names
    assert "passes of korlm bf16, CUDA graph" in names
    for row in result["rows"]:
        if "error" not in row:
            assert row["tokens_per_second"] > 0 and row["peak_memory_mb"] is None, row
        else:
            assert row["error"] == "skipped: this CPU has no LSTM in bf16"
        assert f"{row['name']} " in done.stdout


def test_without_a_gpu(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith("PyTorch finds no GPU; use --device cpu --small to try the script")
    )
    assert list(tmp_path.iterdir()) == []
