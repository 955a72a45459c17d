"""Texts in JSON: arrays, the nested objects of Korean corpora, and values that are not text."""

import json
from pathlib import Path
from typing import Any

import one_line
import pytest

from korlm.config import CorpusFormat, TextConfig
from korlm.corpus.files import read_records
from korlm.corpus.records import Notes
from korlm.utils.errors import CorpusError

MODU = {  # the National Institute of Korean Language's corpora
    "id": "NWRW1900000010",
    "metadata": {"title": "신문"},
    "document": [
        {
            "id": f"NWRW1900000010.{n}",
            "metadata": {"title": f"기사 {n}", "topic": None},
            "paragraph": [{"id": f"{n}.{m}", "form": f"글 {n}의 문단 {m}"} for m in range(n + 1)],
        }
        for n in range(3)
    ],
}
KLUE = [{"guid": f"ynat-v1_{n}", "title": f"제목 {n}", "label": n} for n in range(3)]
MRC = {"data": [{"title": "글", "paragraphs": [{"context": "문맥", "qas": [{"question": "뭐?"}]}]}]}
AI_HUB = {
    "documents": [
        {"id": n, "text": [[{"index": 0, "sentence": f"문장 {n}"}], [{"sentence": "끝"}]]}
        for n in range(2)
    ]
}


def read(
    path: Path,
    value: Any,
    text: str = "text",
    document: str = "",
    notes: Notes | None = None,
    **settings: Any,
) -> list[tuple[str, str]]:
    content = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    path.write_text(content, encoding="utf-8")
    config = TextConfig(text_column=text, document_column=document, **settings)
    return [(record.text, record.document) for record in read_records(path, config, notes)]


def error_of(path: Path, value: Any, *settings: str) -> str:
    return one_line.error_of(lambda: read(path, value, *settings), str(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.json"


def test_corpora_as_they_are_published(path: Path) -> None:
    assert read(path, MODU, "document.paragraph.form", "document.id") == [
        ("글 0의 문단 0", "NWRW1900000010.0"),
        ("글 1의 문단 0\n글 1의 문단 1", "NWRW1900000010.1"),
        ("글 2의 문단 0\n글 2의 문단 1\n글 2의 문단 2", "NWRW1900000010.2"),
    ]
    assert read(path, KLUE, "title", "guid")[2] == ("제목 2", "ynat-v1_2")
    assert read(path, MRC, "data.paragraphs.context", "data.title") == [("문맥", "글")]
    assert read(path, AI_HUB, "documents.text.sentence", "documents.id") == [
        ("문장 0\n끝", "0"),
        ("문장 1\n끝", "1"),
    ]
    # The path of a document may also start at the record.
    assert read(path, AI_HUB, "documents.text.sentence", "id")[1][1] == "1"


def test_other_shapes(path: Path) -> None:
    assert read(path, {"data": {"doc": {"text": "가"}}}, "data.doc.text") == [("가", "")]
    assert read(path, {"data": ["가", "나"]}, "data") == [("가", ""), ("나", "")]
    assert read(path, [{"a.b": {"c": "가"}}], "a.b.c") == [("가", "")]
    assert read(path, [{"text": []}, {"text": "가"}][1:]) == [("가", "")]
    assert read(path, []) == []
    assert read(path, "\ufeff [] \n") == []


def test_json_lines_under_another_name(path: Path) -> None:
    lines = '{"text": "가"}\n\n{"text": "나"}\n'
    assert read(path, lines) == [("가", ""), ("나", "")]
    assert read(path.with_suffix(".ndjson"), lines) == [("가", ""), ("나", "")]
    marks = '\ufeff{"text": "가"}\n\ufeff{"text": "나"}\n'  # of files that were put together
    assert read(path.with_suffix(".jsonl"), marks) == [("가", ""), ("나", "")]
    assert read(path, '{"text":\n"가"} {"text": "나"}') == [("가", ""), ("나", "")]


def test_paths_in_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"data": {"doc": [{"text": f"{n}"}, {"text": "끝"}], "id": n}} for n in range(2)]
    lines = "\n".join(json.dumps(row) for row in rows)
    assert read(path, lines, "data.doc.text", "data.id") == [("0\n끝", "0"), ("1\n끝", "1")]


@pytest.mark.parametrize(
    ("value", "settings", "words"),
    [
        (MODU, (), ["no text under 'text'", "document.paragraph.form", "corpus.text_column="]),
        (KLUE, (), ["record 1 has no text under 'text' (it has guid, title)"]),
        (AI_HUB, ("documents.text",), ["record 1 has a list under 'documents.text'"]),
        ([{"text": "가"}, {"text": None}], (), ["record 2 has null under 'text'", "skip_without"]),
        ([{"text": 3.5}], (), ["record 1 has the number 3.5 under 'text'"]),
        ([{"text": True}], (), ["record 1 has true under 'text'"]),
        ([{"text": {"a": 1}}], (), ["record 1 has an object under 'text'"]),
        ([{"text": ["가"]}], (), ["record 1 has a list under 'text'"]),
        (["가"], (), ["record 1 has no text under 'text' (it has str)"]),
        ([{"n": 1}], (), ["it has n)"]),
        ('{"text": "가"', (), ["line 1, column 13 is not JSON", "corpus.format=txt"]),
        ('[{"text": "가"},\n]', (), ["is not JSON"]),
        ("", (), ["is not JSON"]),
        ("[" * 100_000, (), ["not JSON"]),
        (KLUE, ("title", "id"), ["record 1 has nothing under 'id'", "corpus.document_column=KEY"]),
        (MODU, ("document.paragraph.form", "document.paragraph.id"), ["record 2 has 2 values"]),
    ],
)
def test_invalid_files(path: Path, value: Any, settings: tuple[str, ...], words: list[str]) -> None:
    message = error_of(path, value, *settings)
    for word in words:
        assert word in message


@pytest.mark.parametrize("value", ["null", "3", "1.5", "false", "[]", '["가"]', "{}"])
def test_values_of_json_lines_that_are_no_text(tmp_path: Path, value: str) -> None:
    path = tmp_path / "a.jsonl"
    lines = f'{{"text": "가"}}\n{{"text": {value}}}\n{{"other": 1}}\n'
    message = error_of(path, lines)
    assert "line 2 has " in message and " under 'text', not a string" in message
    assert "it has" not in message and "corpus.skip_without_text=true" in message
    notes = Notes()
    assert read(path, lines, skip_without_text=True, notes=notes) == [("가", "")]
    (line,) = notes.lines()
    assert "left out: 2 (first in" in line and "a.jsonl, line 2" in line


def test_a_wrong_key_is_an_error_even_if_rows_may_be_skipped(path: Path) -> None:
    with pytest.raises(CorpusError, match="no text under 'text'"):
        read(path, KLUE, skip_without_text=True)


def test_one_array_in_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert "corpus.format=json" in error_of(path, json.dumps(KLUE), "title")
    assert len(read(path, KLUE, "title", format=CorpusFormat.json)) == 3


def test_half_a_surrogate_pair(path: Path) -> None:
    text = '[{"text": "a\\ud83d\\ude00b\\ud83dc", "id": "\\udead"}]'
    assert read(path, text, "text", "id") == [("a😀b\ufffdc", "\ufffd")]
