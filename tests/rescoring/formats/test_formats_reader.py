"""Formats are detected and parsed; errors are one line with file and line number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from korlm.config import ListFormat
from korlm.rescoring.formats.parsing import parse_score
from korlm.rescoring.formats.reader import ReadOptions, detect_format, open_lists, read_references
from korlm.rescoring.formats.tables import CostFile
from korlm.rescoring.nbest import NBest, batches_of, check_references
from korlm.utils.errors import ConfigError, NbestError

OBJECT = '{"utt": "a", "hyps": [{"text": "가", "score": -1}]}'


def put(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def plain(lists: list[NBest]) -> list[tuple[str, list[tuple[str, float]]]]:
    return [(nbest.utt, [(hyp.text, hyp.score) for hyp in nbest.hyps]) for nbest in lists]


def test_formats_are_detected(tmp_path: Path) -> None:
    assert detect_format(put(tmp_path, "a.jsonl", "x")) is ListFormat.jsonl
    assert detect_format(put(tmp_path, "b.txt", "", OBJECT)) is ListFormat.jsonl
    assert detect_format(put(tmp_path, "c.txt", "a -1 가")) is ListFormat.text
    assert detect_format(put(tmp_path, "d.txt")) is ListFormat.text
    assert detect_format(tmp_path) is ListFormat.espnet
    assert detect_format(put(tmp_path, "e.jsonl", "x"), ListFormat.text) is ListFormat.text


def test_text(tmp_path: Path) -> None:
    path = put(tmp_path, "n.txt", "a -1.5 나는 간다 ", "a\t-2\t나는  잔다", "", "b -3e0")
    expected = [("a", [("나는 간다", -1.5), ("나는  잔다", -2.0)]), ("b", [("", -3.0)])]
    lists = open_lists(path)
    assert plain(list(lists)) == expected
    assert lists.sizes == {"a": 2, "b": 1}
    costs = open_lists(path, ReadOptions(sign=-1))
    assert plain(list(costs))[0][1][0] == ("나는 간다", 1.5)


def test_kaldi_with_cost_files(tmp_path: Path) -> None:
    path = put(tmp_path, "words", "s-1-1 나는 간다", "s-1-2 잔다", "s-2-1")
    am = put(tmp_path, "ac_cost", "s-1-1 100", "s-1-2 110.5", "s-2-1 7")
    lm = put(tmp_path, "lm_cost", "s-2-1 1", "s-1-2 2", "s-1-1 3")
    layout = ReadOptions(sign=-1, costs=[CostFile(am, 0.1), CostFile(lm, 1.0)])
    (first, second) = open_lists(path, layout)
    assert first.utt == "s-1"
    assert [hyp.name for hyp in first.hyps] == ["s-1-1", "s-1-2"]
    assert [hyp.score for hyp in first.hyps] == pytest.approx([-13, -13.05])
    assert (second.utt, second.hyps[0].text) == ("s-2", "")
    numbered = open_lists(
        put(tmp_path, "n", "s-1-1 -2 가", "s-1-2 -3 나"), ReadOptions(numbered=True)
    )
    assert plain(list(numbered)) == [("s-1", [("가", -2.0), ("나", -3.0)])]


def espnet(folder: Path) -> Path:
    """Write two jobs; the second utterance of the first has one hypothesis."""
    for job, utts in (("output.1", "ab"), ("output.10", "d"), ("output.2", "c")):
        first, second = folder / job / "1best_recog", folder / job / "2best_recog"
        put(first, "text", *(f"{utt} 가 {utt}" for utt in utts))
        put(first, "score", *(f"{utt} tensor(-1.5)" for utt in utts))
        put(first, "token", "not read")
        put(second, "text", *(f"{utt}" for utt in utts if utt != "b"))
        put(second, "score", *(f"{utt} -2.5" for utt in utts if utt != "b"))
    return folder


def test_espnet(tmp_path: Path) -> None:
    two = [("가 ?", -1.5), ("", -2.5)]
    expected = [(u, [(t.replace("?", u), s) for t, s in two[: 2 - (u == "b")]]) for u in "abcd"]
    assert plain(list(open_lists(espnet(tmp_path)))) == expected
    assert plain(list(open_lists(tmp_path / "output.1"))) == expected[:2]


def test_json_lines(tmp_path: Path) -> None:
    hyps = [{"text": "가", "score": -1, "am_score": -7}, {"text": "나", "score": -2, "am_score": 3}]
    lists = [
        json.dumps({"utt": "a", "hyps": hyps}),
        json.dumps({"id": 7, "nbest": hyps[:1], "more": True}),
        json.dumps({"utt": "c", **hyps[0]}),
        json.dumps({"utt": "c", **hyps[1]}),
        json.dumps({"utt": "d", **hyps[1]}),
        json.dumps({"utt": "e", "hyps": hyps[:1]}),
    ]
    path = put(tmp_path, "n.jsonl", *lists)
    result = plain(list(open_lists(path)))
    both = [("가", -1.0), ("나", -2.0)]
    assert result == [("a", both), ("7", both[:1]), ("c", both), ("d", both[1:]), ("e", both[:1])]
    acoustic = plain(list(open_lists(path, ReadOptions(score_field="am_score"))))
    assert acoustic[0] == ("a", [("가", -7.0), ("나", 3.0)])


@pytest.mark.parametrize(
    ("text", "score"),
    [("-1.5", -1.5), ("tensor(-12.3)", -12.3), ("tensor(3., device='cuda:0')", 3.0), (4, 4.0)],
)
def test_scores(text: object, score: float) -> None:
    assert parse_score(text, "f:1") == score


@pytest.mark.parametrize("text", ["", "x", "tensor()", None, True, [1], "tensor(1,2", "nan", "inf"])
def test_no_scores(text: object) -> None:
    with pytest.raises(NbestError, match=r"^f:1: the score"):
        parse_score(text, "f:1")


def espnet_json(folder: Path) -> Path:
    """Write a file as ESPnet1 does: indented, <eos> at the end, ▁ for spaces."""
    outputs = [
        {"name": "target1", "text": "나는 간다", "rec_text": "▁나는▁간다<eos>", "score": -1.5},
        {"name": "target1", "text": "나는 간다", "rec_text": "▁나는▁잔다<eos>", "score": -2},
    ]
    data = {"utts": {"a": {"input": [], "output": outputs}, "b": {"output": outputs[1:]}}}
    text = json.dumps(data, indent=4, ensure_ascii=False)
    return put(folder, "data.json", *text.split("\n"))


def test_espnet_json(tmp_path: Path) -> None:
    path = espnet_json(tmp_path)
    assert detect_format(path) is ListFormat.espnet_json
    first, second = ("나는 간다", -1.5), ("나는 잔다", -2.0)
    assert plain(list(open_lists(path))) == [("a", [first, second]), ("b", [second])]
    assert plain(list(open_lists(path, ReadOptions(sign=-1))))[1] == ("b", [("나는 잔다", 2.0)])
    assert read_references(path) == {"a": "나는 간다", "b": "나는 간다"}
    on_one_line = json.dumps(json.loads(path.read_text("utf-8")))
    assert detect_format(put(tmp_path, "x", on_one_line)) is ListFormat.espnet_json


def test_the_sort_command_for_numbered_hypotheses(tmp_path: Path) -> None:
    path = put(tmp_path, "my n.txt", "a-1 -1 가", "b-1 -1 가", "a-2 -2 나")
    with pytest.raises(NbestError, match=r"must be adjacent: sort -V -k1,1 '.*my n\.txt' "):
        list(open_lists(path, ReadOptions(numbered=True)))


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("n.txt", [], "contains no hypotheses"),
        ("n.txt", ["", "  "], "contains no hypotheses"),
        ("n.txt", ["a -1 가", "b"], "n.txt:2: b has no score; lines must be"),
        (
            "n.txt",
            ["a 가 나"],
            "n.txt:1: the score '가' is not a number; lines must be 'utterance score ",
        ),
        ("n.txt", ["a -1 가", "", "a nan 가"], "n.txt:3: the score is nan; it must be finite"),
        ("n.txt", ["a -1 가", "b -1 가", "a -2 나"], "n.txt:3: utterance a occurs above already"),
        ("n.txt", ["a -1 가", "b -1 가", "a -2 나"], "must be adjacent: sort -s -k1,1 "),
        ("n.txt", ["u1:\tref=['가']", "u1:\thyp=['가']"], "n.txt:1: icefall's recogs file has"),
        ("n.json", ["{", '"utt": "a"', "}"], "n.json:1: one JSON value over several lines"),
        ("n.json", ["[", '{"utt": "a"}', "]"], "n.json:1: one JSON value over several lines"),
        ("n.txt", ["["], "n.txt:1: one JSON value over several lines"),
        ("n.json", ['{"utts": {"a": {}}}'], "utterance a has no objects under 'output'"),
        ("n.json", ['{"utts": {"a": {"output": [{}]}}}'], "hypothesis 1 of utterance a: no text"),
        ("n.json", ['{"utts": {"a": {"output": [{"rec_text": "가"}]}}}'], "no score under 'score'"),
        ("n.json", ['{"utts": [1]}'], "no object under 'utts'; ESPnet's data.json has one"),
        ("n.json", ["{", '"utts": {', "}"], "n.json: is not JSON"),
        ("n.jsonl", ["{x"], "n.jsonl:1: is not JSON"),
        ("n.jsonl", ["[1]"], "n.jsonl:1: must be an object {...}, not list"),
        ("n.jsonl", ['{"hyps": []}'], "n.jsonl:1: no utterance name without spaces"),
        (
            "n.jsonl",
            ['{"utt": "a b", "hyps": []}'],
            "no utterance name without spaces under utt or id",
        ),
        ("n.jsonl", [OBJECT, '{"utt": "b", "hyps": []}'], "n.jsonl:2: hyps of utterance b must be"),
        ("n.jsonl", ['{"utt": "a", "hyps": [1]}'], "hypothesis 1 of utterance a: must be an obj"),
        ("n.jsonl", ['{"utt": "a", "text": 3, "score": 1}'], "n.jsonl:1: no text under 'text'"),
        ("n.jsonl", ['{"utt": "a", "text": "가"}'], "no score under 'score' (there is utt, text)"),
        ("n.jsonl", ['{"utt": "a", "text": "가", "score": NaN}'], "n.jsonl:1: the score is nan"),
        ("n.jsonl", ['{"utt": "a", "text": "\\ud800", "score": 1}'], "lone surrogate"),
        ("1best_recog/score", ["a 1"], "utterance a has no line at this position in"),
        ("2best_recog/score", ["a 1"], "has 2best_recog but no 1best_recog"),
        ("empty", ["a 1"], "has no 1best_recog"),
    ],
)
def test_broken_lists(tmp_path: Path, name: str, lines: list[str], message: str) -> None:
    path = put(tmp_path / "x", name, *lines)
    if "/" in name:
        put(path.parent, "text")
    with pytest.raises(NbestError) as caught:
        list(open_lists(path if "." in name else tmp_path / "x"))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_espnet_out_of_order(tmp_path: Path) -> None:
    folder = espnet(tmp_path) / "output.1"
    put(folder / "2best_recog", "text", "b 가", "a 나")
    put(folder / "2best_recog", "score", "b 1", "a 2")
    with pytest.raises(NbestError, match=r"text:2: utterance a is missing from .*or at another"):
        list(open_lists(folder))


def test_broken_cost_files(tmp_path: Path) -> None:
    path, cost = put(tmp_path, "words", "a-1 가", "a-2 나"), put(tmp_path, "cost", "a-1 3")
    with pytest.raises(NbestError, match=r"words:2: a-2 has no score in .*cost"):
        list(open_lists(path, ReadOptions(costs=[CostFile(cost, 1.0)])))
    put(tmp_path, "cost", "a-1 3", "a-1 4")
    with pytest.raises(NbestError, match="cost:2: a-1 occurs above already"):
        list(open_lists(path, ReadOptions(costs=[CostFile(cost, 1.0)])))
    with pytest.raises(NbestError, match="words:1: a is not a numbered hypothesis"):
        list(open_lists(put(tmp_path, "words", "a 1 가"), ReadOptions(numbered=True)))
    with pytest.raises(ConfigError, match="scores: only for format=text"):
        open_lists(put(tmp_path, "n.jsonl", OBJECT), ReadOptions(costs=[CostFile(cost, 1.0)]))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NbestError, match="no such file or folder"):
        open_lists(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"a\0\0\0")
    with pytest.raises(
        NbestError, match=r"a binary file, not text; leave it out; convert it to UTF-8$"
    ):
        list(open_lists(tmp_path / "binary"))
    (tmp_path / "parquet").write_bytes(b"PAR1\x15\x04")
    with pytest.raises(NbestError, match=r"a Parquet file; convert it to UTF-8$"):
        list(open_lists(tmp_path / "parquet"))


def test_references(tmp_path: Path) -> None:
    path = put(tmp_path, "ref", "a 나는  간다", "b")
    assert read_references(path) == {"a": "나는  간다", "b": ""}
    json_path = put(tmp_path, "ref.jsonl", '{"utt": "a", "text": "가"}', '{"id": 2, "text": ""}')
    assert read_references(json_path) == {"a": "가", "2": ""}
    rows = ["a:\tref=['나는', '간다']", "a:\thyp=['나는']", "b:\tref=[]", "b:\thyp=[]"]
    assert read_references(put(tmp_path, "recogs", *rows)) == {"a": "나는 간다", "b": ""}
    with pytest.raises(NbestError, match="recogs:1: ref= must be followed by a list of words"):
        read_references(put(tmp_path, "recogs", "a:\tref=[가]"))
    with pytest.raises(NbestError, match="ref:2: utterance a occurs above already"):
        read_references(put(tmp_path, "ref", "a 가", "a 나"))
    with pytest.raises(NbestError, match="contains no references"):
        read_references(put(tmp_path, "ref"))
    assert check_references({"a"}, {"a": "가", "b": ""}, path) == 1
    assert check_references({"a", "b"}, {"a": "가", "b": ""}, path) == 0
    with pytest.raises(NbestError, match=r"ref: all references are empty, .* nothing to tune on"):
        check_references({"a", "b"}, {"a": "", "b": " ", "c": "가"}, path)
    with pytest.raises(NbestError, match="no reference for 2 of 3 utterances, the first is b"):
        check_references({"a", "b", "c"}, {"a": ""}, path)


def test_batches(tmp_path: Path) -> None:
    rows = [
        f"{utt} -1 {number}"
        for utt, size in zip("abcd", (2, 1, 5, 1), strict=True)
        for number in range(size)
    ]
    lists = open_lists(put(tmp_path, "n", *rows))
    results = [[nbest.utt for nbest in batch] for batch in batches_of(lists, 3)]
    assert results == [["a", "b"], ["c"], ["d"]]
