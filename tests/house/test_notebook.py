"""The notebook runs from its first cell to its last, without Jupyter, and holds no output."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

PATH = Path(__file__).parents[2] / ".github" / "korlm.ipynb"
CELLS = json.loads(PATH.read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def test_output_is_cleared() -> None:
    for cell in CELLS:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_all_cells_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    assert "QUICK = False" in CODE[0]
    names: dict[str, object] = {}
    try:
        for source in CODE:
            exec(compile(source.replace("QUICK = False", "QUICK = True"), PATH, "exec"), names)
        assert len(plt.get_fignums()) == 2
    finally:
        plt.close("all")
    shown = capsys.readouterr().out
    assert "valid: perplexity" in shown and "의하여" in shown and "대통령은" in shown
