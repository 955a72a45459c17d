"""``run=latest``: the newest run below outputs/runs, for all commands and in Python."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

from korlm.config.paths import run_directory
from korlm.utils.errors import ConfigError


@pytest.fixture
def runs(tiny_run: Callable[[str], Any], tmp_path: Path) -> Path:
    """Return a folder of two runs, a folder without checkpoints, and one of another name."""
    folder = tmp_path / "outputs" / "runs"
    for name in ("2026-01-02_10-00-00", "2026-01-02_09-00-00_b", "other"):
        shutil.copytree(tiny_run("ngram").folder, folder / name)
    (folder / "2027-01-01_00-00-00").mkdir()
    return folder


def test_the_newest_run(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_directory(Path("latest")) == Path("outputs/runs/2026-01-02_10-00-00")
    Path("latest").mkdir()
    assert run_directory(Path("latest")) == Path("latest")
    Path("latest").rmdir()
    shutil.rmtree("outputs")
    with pytest.raises(ConfigError, match="latest: outputs/runs has no run with a date in"):
        run_directory(Path("latest"))


def test_commands(korlm: Command, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("나는 집에 간다.\n", encoding="utf-8")
    (tmp_path / "n.txt").write_text("u1 -1.0 나는 간다\nu1 -2.0 나는 잔다\n", encoding="utf-8")
    for command in (
        ("generate", "run=latest"),
        ("score", "run=latest", "input=a.txt"),
        ("rescore", "run=latest", "nbest=n.txt"),
        ("evaluate", "run=latest", "bootstrap.samples=100", "plot=false"),
        ("export", "run=latest", "output=export"),
        ("report", "runs=latest"),
    ):
        ended = korlm(*command)
        assert ended.code == 0, f"{command}: {ended.err}"
    assert list((runs / "2026-01-02_10-00-00" / "evaluations").glob("*/metrics.json"))
    assert "language model" in korlm("predict", "run=latest", "input=a.txt").err
    shutil.rmtree(runs)
    assert "latest: outputs/runs has no run" in korlm("generate", "run=latest").error
