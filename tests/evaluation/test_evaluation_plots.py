"""The plot is drawn for any names and metrics; warnings are errors here."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from texts import random_nats, random_text, result_of

from korlm.config import BootstrapConfig
from korlm.evaluation.evaluate import EvaluationResult, compare
from korlm.evaluation.plots import draw_breakdown
from korlm.utils import plotting

HEAD = b"\x89PNG\r\n\x1a\n"


def draw(path: Path, rows: dict[str, EvaluationResult]) -> None:
    draw_breakdown(path, "valid", rows, compare(rows, BootstrapConfig(samples=100)))
    assert path.read_bytes().startswith(HEAD)
    assert path.stat().st_size > 10_000
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("num_docs", "num_tokens"), [(1, 50), (5, 300), (40, 1500)])
def test_few_and_many_documents(tmp_path: Path, num_docs: int, num_tokens: int) -> None:
    text = random_text(num_tokens, num_docs)
    draw(
        tmp_path / "a.png",
        {name: result_of(text, random_nats(text, n)) for n, name in enumerate("ab")},
    )


def test_odd_names_and_infinite_metrics(tmp_path: Path) -> None:
    text = dataclasses.replace(
        random_text(300), doc_ids=["_a", "$x^", "한글 이름.txt" * 9, "\ue123", "\n"]
    )
    nats = random_nats(text)
    infinite = np.where(np.arange(len(nats)) == 0, np.inf, nats)
    rows = {"_carried": result_of(text, infinite), "$한글": result_of(text, nats)}
    draw(tmp_path / "a.png", {**rows, "infinite": result_of(text, np.full(len(nats), np.inf))})


def test_more_rows_than_colours(tmp_path: Path) -> None:
    text = random_text(300)
    draw(tmp_path / "a.png", {f"run {n}": result_of(text, random_nats(text, n)) for n in range(12)})


@pytest.mark.usefixtures("fresh_fonts")
def test_without_a_font_numbers_stand_for_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    latin = [e for e in font_manager.fontManager.ttflist if e.name == plotting.LATIN]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", latin)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)  # none is installed
    text = random_text(300)
    with caplog.at_level(logging.INFO):
        draw(tmp_path / "a.png", {"a": result_of(text, random_nats(text))})
    assert "no font for some names in plots, which are replaced by numbers" in caplog.text
