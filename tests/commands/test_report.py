"""korlm.report: pages of runs and sweeps, errors in one line."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
from conftest import LIGHT, Command, TinyCorpus


def test_pages_of_a_run_and_a_sweep(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    overrides = [*LIGHT, "trainer.epochs=1", "trainer.max_steps=5", *tiny.overrides]
    assert korlm("train", "name=실험", *overrides).code == 0
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    assert korlm("report", f"runs=[{run}]", "output=한.html", "title=나, '너'").code == 0
    page = (tmp_path / "한.html").read_text("utf-8")
    assert "나, '너'" in html.unescape(page) and "실험" in page
    assert page.count("<svg role") == 1
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    assert korlm("report", f"runs={run.parent}/*").code == 0
    run.rename(sweep / "0")
    assert korlm("report", f"sweep={sweep}").code == 0
    assert "Sweep sweep" in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], ("runs=[DIR,...]", "sweep=DIR")),
        (["runs=[a]", "sweep=b"], ("runs=[DIR,...]", "sweep=DIR")),
        (["runs=[nowhere]"], ("runs=nowhere", "outputs/runs")),
        (["sweep=nowhere"], ("sweep=nowhere", "outputs/sweeps")),
        (
            ["runs=[x]", "output=no/page.html"],
            ("output=no/page.html", "the folder no does not exist"),
        ),
        (["runs=[x]", "output=."], ("output=.", "is a folder")),
    ],
)
def test_errors_of_one_line(
    korlm: Command, tmp_path: Path, overrides: list[str], words: tuple[str, ...]
) -> None:
    error = korlm("report", *overrides).error
    assert all(word in error for word in words), error
    assert not list(tmp_path.iterdir())
