"""The page: everything that came from a run is text, and nobody is asked for anything."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from korlm.reporting.html import build_page, write_page
from korlm.reporting.run_summary import RunSummary
from korlm.reporting.tensorboard_events import TensorBoardData
from korlm.utils.errors import OutputError

EVIL = "<script>alert(1)</script>\"'&<img src=http://example.com/x>"
VALID = {"num_tokens": 10, "num_unk": 1, "num_chars": 30, "perplexity": 7.389, "bits_per_char": 1.5}


def group(perplexity: float) -> dict[str, float]:
    return {"perplexity": perplexity, "num_tokens": 5}


def told(name: str, perplexity: float = 7.389, **settings: str) -> RunSummary:
    curves = {"loss/train": [(10, 2.0), (20, 1.5)], "loss/valid": [(20, 1.0)]}
    row = {"bands": {"0": group(9.0), "2-9": group(3.0)}, "positions": {"1": group(2.0)}}
    return RunSummary(
        name,
        Path("runs") / name,
        settings,
        {"valid": {**VALID, "perplexity": perplexity}},
        {"num_parameters": 1234567},
        {"test": {"carried": row}},
        TensorBoardData(curves, (20, f"나는 {name}.\n\n 끝")),
    )


class Elements(HTMLParser):
    """Names, addresses and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [str(v) for k, v in attributes if k in ("src", "href", "action")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_all_that_is_promised_stands_there() -> None:
    runs = [told("가나", lr="0.1"), told("b", 9.0, lr="0.2")]
    page = build_page("두 실행", runs, datetime(2026, 1, 2))
    for part in (
        "두 실행",
        "가나, 0.1",
        "b, 0.2",
        "7.389",
        "1,234,567",
        "나는 가나.\n끝",
        "unknown",
    ):
        assert part in page, part
    assert page.count('class="number best"') == 3  # one perplexity, the same bits twice
    assert page.count("<svg role") == 2
    assert "compared" not in page


def test_other_tokens_are_told() -> None:
    other = told("b")
    other.metrics["valid"]["num_tokens"] = 99
    page = build_page("x", [told("a"), other])
    assert "only bits per character" in page
    assert page.count('class="number best"') == 2
    other.metrics["valid"]["num_chars"] = 99
    page = build_page("x", [told("a"), other])
    assert "no figure can be compared" in page and 'class="number best"' not in page


def test_whatever_a_run_holds_is_text() -> None:
    evil = told(EVIL, **{EVIL: EVIL})
    evil.evaluation[EVIL] = {EVIL: {"bands": {EVIL: group(2.0)}, "positions": {EVIL: group(2.0)}}}
    evil = dataclasses.replace(evil, problems=(EVIL,))
    for runs in ([evil], [evil, told("b", **{EVIL: "b"})]):
        found = Elements(build_page(EVIL, runs))
        assert not {"script", "img", "link", "iframe", "object"} & set(found.names)
        assert all(address.startswith("#") for address in found.addresses)
        assert any(EVIL in text for text in found.texts)


def test_the_browser_may_ask_nobody() -> None:
    page = build_page("x", [told("a")])
    assert "default-src 'none'" in page
    assert "@import" not in page and "url(h" not in page


def test_a_run_of_which_nothing_is_known() -> None:
    empty = RunSummary("a", Path("a"), problems=("not finished: no metrics.json",))
    page = build_page("x", [empty, told("b")])
    assert "not finished: no metrics.json" in page
    assert Elements(build_page("x", [empty])).names.count("h2") == 1


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_page(tmp_path / "a.html", "가\ud800")  # what a broken file name becomes
    assert (tmp_path / "a.html").read_text("utf-8") == "가?"
    with pytest.raises(OutputError):
        write_page(tmp_path / "no" / "a.html", "가")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
