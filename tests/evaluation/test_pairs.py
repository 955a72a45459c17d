"""Minimal pairs: templates, accuracies, files and the command."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import Command

from korlm.evaluation.pairs import templates
from korlm.evaluation.pairs.accuracy import (
    PAIRS,
    accuracies,
    read_pairs,
    score_pairs,
    wilson_interval,
)
from korlm.evaluation.pairs.templates import (
    NUM_PAIRS,
    MinimalPair,
    pairs_of,
    phenomena,
    resolve_particles,
)
from korlm.evaluation.surprisal.score import surprisal_table
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import CorpusError


def differing_parts(good: str, bad: str) -> tuple[str, str]:
    """Return what remains of two texts without their common beginning and end."""
    while good and bad and good[0] == bad[0]:
        good, bad = good[1:], bad[1:]
    while good and bad and good[-1] == bad[-1]:
        good, bad = good[:-1], bad[:-1]
    return good, bad


def test_there_are_enough_phenomena() -> None:
    assert len(phenomena()) >= 12
    assert all(phenomena().values())


@pytest.mark.parametrize("phenomenon", phenomena())
def test_pairs_are_different_sentences_of_korean(phenomenon: str) -> None:
    pairs = pairs_of(phenomenon)
    assert len(pairs) == len(set(pairs)) == NUM_PAIRS >= 100
    assert not {pair.good for pair in pairs} & {pair.bad for pair in pairs}
    for pair in pairs:
        good, bad = differing_parts(pair.good, pair.bad)
        # Sentences differ in one place of at most two eojeols.
        assert good != bad and max(len(good), len(bad)) <= 12, pair
        for text in (pair.good, pair.bad):
            assert re.fullmatch(r"[가-힣]+(,? [가-힣]+)*[.?]", text), text


@pytest.mark.parametrize("phenomenon", phenomena())
def test_every_word_and_template_is_used(phenomenon: str) -> None:
    entry = templates._read("phenomena.yaml")[phenomenon]
    goods = [pair.good for pair in pairs_of(phenomenon, 120)]
    for template in entry["templates"]:
        fixed = re.split(r"\{.*?\}|\[.*?\]|<.*?>", template)
        pattern = ".*".join(map(re.escape, fixed))
        # The text outside a choice is part of both sentences.
        assert any(re.fullmatch(pattern, good) for good in goods), template


def test_every_word_list_is_used() -> None:
    text = (templates.FOLDER / "phenomena.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\{(\w+)", text)) - {"list"} == set(templates._words())


def test_pairs_never_change() -> None:
    assert pairs_of("counters", 1)[0] == (
        "counters",
        "거기에는 자동차 두 대가 있었다.",
        "거기에는 자동차 두 마리가 있었다.",
    )
    assert pairs_of("plural", 50) == pairs_of("plural", 100)[:50]


def test_too_many_pairs() -> None:
    with pytest.raises(ValueError, match="counters: its templates have only"):
        pairs_of("counters", 100_000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("책[은/는] 나[은/는]", "책은 나는"),
        ("물[으로/로] 산[으로/로] 바다[으로/로]", "물로 산으로 바다로"),
        ("물[을/를] 물[!으로/로] 산[!이/가]", "물을 물으로 산가"),
    ],
)
def test_particles(text: str, expected: str) -> None:
    assert resolve_particles(text) == expected


@pytest.fixture
def run(tiny_run: Callable[[str], TrainedRun]) -> TrainedRun:
    return tiny_run("lstm")


def test_scores_are_those_of_whole_sentences(run: TrainedRun) -> None:
    pairs = [
        MinimalPair("a", "나는 집에 간다.", "나는 집을 간다."),
        MinimalPair("a", "우리는 뷁을 본다.", "우리는 책 본다."),
    ]
    rows = pa.concat_tables(score_pairs(run, "x", pairs, None, 5)).to_pylist()
    for side in ("good", "bad"):
        texts = [row[side] for row in rows]
        expected = surprisal_table(run, texts, "sentence", "line", False).to_pylist()
        for row, sentence in zip(rows, expected, strict=True):
            assert row[f"{side}_surprisal"] == pytest.approx(sentence["open_surprisal"])
            assert row[f"{side}_tokens"] == sentence["num_tokens"]
    assert [row["right"] for row in rows] == [
        float(row["good_surprisal"] < row["bad_surprisal"]) for row in rows
    ]


def test_equal_tokens_do_not_count(run: TrainedRun) -> None:
    pairs = [
        MinimalPair("a", "나는 간다.", "나는 간다.\u200b"),
        MinimalPair("a", "나는 집에 간다.", "나는 간다."),
    ]
    table = pa.concat_tables(score_pairs(run, "x", pairs))
    assert table.column("right").to_pylist()[0] is None
    result = accuracies(table)["a"]
    assert (result.num_pairs, result.num_same) == (1, 1)


def test_accuracies() -> None:
    right = {"a": [1.0, 0.0, 0.5, None], "b": [1.0], "c": [None]}
    rows = [(name, value) for name, values in right.items() for value in values]
    columns = {name: [0] * len(rows) for name in PAIRS.names[4:8]}
    columns |= {name: [""] * len(rows) for name in PAIRS.names[:4]}  # type: ignore[dict-item]
    columns |= dict(zip(("phenomenon", "right"), map(list, zip(*rows, strict=True)), strict=True))
    results = accuracies(pa.table([columns[name] for name in PAIRS.names], schema=PAIRS))
    assert {name: result.accuracy for name, result in results.items() if result.num_pairs} == {
        "a": 0.5,
        "b": 1.0,
        "all": 0.625,
    }
    assert math.isnan(results["c"].accuracy)
    assert (results["all"].num_pairs, results["all"].num_same) == (4, 2)


def test_wilson_interval_contains_the_share() -> None:
    # Wilson (1927); the value for 0 of 10 is 0 to 0.2775 (Newcombe 1998, table I, method 3).
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=5e-5)
    assert wilson_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=5e-5)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("id\tgood\tbad\n1\t가 나\t가 다\n\n2\t라\\t마\t라\n", encoding="utf-8")
    assert read_pairs([str(path)]) == [("mine", "가 나", "가 다"), ("mine", "라\t마", "라")]
    path.write_text("phenomenon\tbad\tgood\np\t가\t나\n", encoding="utf-8-sig")
    assert read_pairs([str(path)]) == [("p", "나", "가")]


def test_quotes_in_tsv_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are quoting if pandas or a spreadsheet wrote the file, else text."""
    path = tmp_path / "mine.tsv"
    rows = [("good", "bad"), ('그는 "네" 했다.', "가\t나"), ("다", "라")]
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(rows)
    assert read_pairs([str(path)]) == [("mine", *rows[1]), ("mine", "다", "라")]
    path.write_text('good\tbad\n"네"\t아니오\n다\t라\n', encoding="utf-8")
    assert not caplog.records
    assert read_pairs([str(path)])[0] == ("mine", '"네"', "아니오")
    assert "the double quotes around 1 cells are read as text" in caplog.text


@pytest.mark.parametrize("separator", [",", ";"])
def test_csv_files(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "mine.csv"
    rows = [
        ("item", "good", "bad"),
        ("1", '"네", 하고 갔다; 왔다.', "네\n아니오"),
        ("2", "가", "나"),
    ]
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([rows[0], rows[1], [], rows[2]])
    assert read_pairs([str(path)]) == [("mine", *rows[1][1:]), ("mine", "가", "나")]
    path.write_text('good,bad\n가,"나"다\n', encoding="utf-8")
    with pytest.raises(CorpusError, match=r"mine\.csv: line 2: "):
        read_pairs([str(path)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("good\tworse\n가\t나\n", r"no column bad; its columns are good, worse;"),
        ("good\tbad\n가\n", "line 2 has 1 columns, the header 2"),
        ("good\tbad\n가\t나\n가\t가\n", "line 3: both sentences are equal"),
        ("good\tbad\n \t가\n", "line 2: a sentence is blank"),
        ("good\tbad\n", "no pairs, only a header"),
    ],
)
def test_bad_files(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        read_pairs([str(path)])


def test_command(korlm: Command, run: TrainedRun, tmp_path: Path) -> None:
    options = ["device=cpu", "phenomena=[plural,counters]", "pairs=5", f"output={tmp_path}/p.tsv"]
    ended = korlm("pairs", f"run={run.folder}", *options)
    assert ended.code == 0, ended.err
    table = [
        line for line in ended.err.splitlines() if line.startswith(("plural", "counters", "all"))
    ]
    assert [line.split()[:2] for line in table] == [
        ["plural", "5"],
        ["counters", "5"],
        ["all", "10"],
    ]
    with open(tmp_path / "p.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == 10 and rows[0]["phenomenon"] == "plural"
    share = sum(float(row["right"]) for row in rows) / 10
    assert f"{100 * share:.1f} (" in table[-1]


def test_the_pairs_are_not_replaced(korlm: Command, run: TrainedRun, tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("good\tbad\n가\t나\n", encoding="utf-8")
    ended = korlm("pairs", f"run={run.folder}", f"input={path}", f"output={path}")
    assert "mine.tsv: is also read; give another file" in ended.error
    assert read_pairs([str(path)]) == [("mine", "가", "나")]


def test_command_rejects(korlm: Command, run: TrainedRun, tmp_path: Path) -> None:
    for options, message in {
        ("phenomena=[plurals]",): "phenomena: plurals: must be one of .*; did you mean plural?",
        ("pairs=99999",): "pairs=99999: particle_allomorphy: its templates have only",
        ("output=x.doc",): "output=x.doc: must end in",
        ("input=x.tsv", "phenomena=[plural]"): "phenomena.*: has no effect on pairs of your own",
        (f"input={tmp_path}/none.tsv",): "none.tsv: there is no such file",
    }.items():
        ended = korlm("pairs", f"run={run.folder}", *options)
        assert ended.code == 1
        assert re.search(message, ended.err.splitlines()[-1]), ended.err
