"""The page: values of runs are escaped, nothing is external."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import pytest

from korlm.reporting.html import build_page, write_page
from korlm.reporting.run_summary import RunSummary, best_first
from korlm.runs.tensorboard_events import TensorBoardData
from korlm.utils.errors import OutputError

EVIL = "<script>alert(1)</script>\"'&<img src=http://example.com/x>"
VALID = {"num_tokens": 10, "num_unk": 1, "num_chars": 30, "perplexity": 7.389, "bits_per_char": 1.5}


def bin_of(perplexity: float) -> dict[str, float]:
    return {"perplexity": perplexity, "num_tokens": 5}


def summary(name: str, perplexity: float = 7.389, **settings: str) -> RunSummary:
    curves = {"loss/train": [(10, 2.0), (20, 1.5)], "loss/valid": [(20, 1.0)]}
    row = {"bands": {"0": bin_of(9.0), "2-9": bin_of(3.0)}, "positions": {"1": bin_of(2.0)}}
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
    """Tags, links and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(v) for k, v in attributes if k in ("src", "href", "action")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_content_of_the_page() -> None:
    runs = [summary("가나", lr="0.1"), summary("b", 9.0, lr="0.2")]
    page = build_page("두 실행", runs)
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


def test_runs_that_are_not_comparable() -> None:
    other = summary("b")
    other.metrics["valid"]["num_tokens"] = 99
    page = build_page("x", [summary("a"), other])
    assert "only bits per character" in page
    assert page.count('class="number best"') == 2
    other.metrics["valid"]["num_chars"] = 99
    page = build_page("x", [summary("a"), other])
    assert "no metric can be compared" in page and 'class="number best"' not in page


def reviews(name: str, accuracy: float, num_examples: int = 10) -> RunSummary:
    """Return a run of classification."""
    metrics = {"num_examples": num_examples, "accuracy": accuracy, "macro_f1": None, "loss": 0.5}
    curves = {"loss/train": [(10, 2.0)], "loss/valid": [(20, 1.0)], "accuracy/valid": [(20, 0.8)]}
    sample = "| text | label |\n| --- | --- |\n| 참 좋다 | 긍정 |"
    return RunSummary(
        name,
        Path("runs") / name,
        {"task.name": "classification", "objective": "${korlm_objective:${task.name}}"},
        {"valid": metrics, "test": metrics},
        tensorboard=TensorBoardData(curves, (20, sample)),
    )


def test_runs_of_a_task() -> None:
    runs = best_first([reviews("a", 0.8125), reviews("b", 0.875)])
    assert [run.name for run in runs] == ["b", "a"]
    elements = Elements(page := build_page("x", runs))
    heads = [text for text in elements.texts if text.startswith(("valid ", "test "))]
    metrics = ("accuracy", "loss")  # macro F1 is not finite
    assert heads[:4] == [f"{split} {metric}" for metric in metrics for split in ("valid", "test")]
    assert "perplexity" not in page and not {"∞", "nan"} & set(elements.texts)
    assert page.count('<td class="number best">0.875</td>') == 2
    assert "참 좋다" in elements.texts and "긍정" in elements.texts
    assert page.count("<svg role") == 1 and "valid accuracy" in page
    other = build_page("x", [*runs, reviews("c", 0.9, num_examples=11)])
    assert "no metric can be compared" in other and 'class="number best"' not in other


def test_runs_of_several_tasks_are_grouped() -> None:
    tagger = dataclasses.replace(
        reviews("c", 0.5), settings={"task.name": "tagging", "task.labels": "spans"}
    )
    runs = best_first([reviews("a", 0.8125), summary("lm"), tagger, reviews("b", 0.875)])
    assert [run.name for run in runs] == ["b", "a", "lm", "c"]
    elements = Elements(build_page("x", runs))
    heads = [text for text in elements.texts if text.startswith("Runs")]
    assert heads == ["Runs: classification", "Runs: language modeling", "Runs: tagging of spans"]
    assert elements.texts.count("valid perplexity") == 1


def test_values_are_escaped() -> None:
    evil = summary(EVIL, **{EVIL: EVIL})
    evil.evaluation[EVIL] = {EVIL: {"bands": {EVIL: bin_of(2.0)}, "positions": {EVIL: bin_of(2.0)}}}
    evil = dataclasses.replace(evil, problems=(EVIL,))
    for runs in ([evil], [evil, summary("b", **{EVIL: "b"})]):
        elements = Elements(build_page(EVIL, runs))
        assert not {"script", "img", "link", "iframe", "object"} & set(elements.tags)
        assert all(link.startswith("#") for link in elements.links)
        assert any(EVIL in text for text in elements.texts)


def test_nothing_is_external() -> None:
    page = build_page("x", [summary("a")])
    assert "default-src 'none'" in page
    assert "@import" not in page and "url(h" not in page


def test_a_run_without_files() -> None:
    empty = RunSummary("a", Path("a"), problems=("not finished: no metrics.json",))
    page = build_page("x", [empty, summary("b")])
    assert "not finished: no metrics.json" in page
    assert Elements(build_page("x", [empty])).tags.count("h2") == 1


def test_the_page_is_written_atomically(tmp_path: Path) -> None:
    write_page(tmp_path / "a.html", "가\ud800")  # as in an undecodable file name
    assert (tmp_path / "a.html").read_text("utf-8") == "가?"
    with pytest.raises(OutputError):
        write_page(tmp_path / "no" / "a.html", "가")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
