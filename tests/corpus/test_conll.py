"""CoNLL, CoNLL-U and KLUE's named entities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from one_line import error_of

from korlm.config import CorpusFormat, TextConfig
from korlm.corpus.files import read_records
from korlm.utils.errors import CorpusError

KLUE = """\
## klue-ner-v1_dev_0\t<박:PS>씨가 <서울:LC>로
박\tB-PS
씨\tO
가\tO
 \tO
서\tB-LC
울\tI-LC
로\tO

## klue-ner-v1_dev_1\t#1
#\tO
1\tO
"""

CONLL = """\
# a comment
나는 NP O
홍 NNP B-PS
길동 NNP I-PS

# NNP O
끝 NNG O
"""

CONLLU = """\
# sent_id = 1
# text = 나는(네) 간다.
1\t나는\t나+는\tPRON\tnpp+jxc\t_\t0\troot\t_\tSpaceAfter=No
2\t(네)\t네\tINTJ\tii\t_\t1\tdep\t_\t_
2.1\t_\t_\tX\t_\t_\t_\t_\t_\t_
3-4\t간다.\t_\t_\t_\t_\t_\t_\t_\t_
3\t간다\t가+ㄴ다\tVERB\tpvg+ef\t_\t1\tdep\t_\t_
4\t.\t.\tPUNCT\tsf\t_\t1\tpunct\t_\t_

1\t끝\t끝\tNOUN\tncn\tCase=Nom\t0\troot\t_\t_
"""


def read(
    path: Path, text: str, file_format: CorpusFormat = CorpusFormat.conll, **settings: str
) -> list[tuple[str, Any]]:
    path.write_text(text, "utf-8")
    records = read_records(path, TextConfig(format=file_format, **settings))
    return [(r.text, json.loads(r.annotation) if r.annotation else None) for r in records]


def test_klue(tmp_path: Path) -> None:
    records = read(tmp_path / "a.tsv", KLUE, text_column="1", label_column="2")
    assert records == [("박씨가 서울로", [[0, 1, "PS"], [5 - 1, 6, "LC"]]), ("#1", [])]


def test_conll(tmp_path: Path) -> None:
    records = read(tmp_path / "a", CONLL, text_column="1", label_column="3")
    assert records == [("나는 홍 길동", [[3, 7, "PS"]]), ("# 끝", [])]
    tags = read(tmp_path / "a", CONLL, text_column="1", label_column="2")
    assert tags[0][1] == [[0, 2, "NP"], [3, 4, "NNP"], [5, 7, "NNP"]]
    assert read(tmp_path / "a", CONLL)[1] == ("# 끝", None)  # no labels


def test_bioes(tmp_path: Path) -> None:
    text = "가\tS-A\n나\tB-B\n다\tE-B\n"
    records = read(tmp_path / "a", text, label_column="2")
    assert records == [("가 나 다", [[0, 1, "A"], [2, 5, "B"]])]


def test_conllu(tmp_path: Path) -> None:
    records = read(tmp_path / "a.conllu", CONLLU, CorpusFormat.auto, label_column="upos")
    assert records == [
        ("나는(네) 간다.", [[0, 2, "PRON"], [2, 5, "INTJ"], [6, 9, "VERB+PUNCT"]]),
        ("끝", [[0, 1, "NOUN"]]),
    ]
    feats = read(tmp_path / "a.conllu", CONLLU, CorpusFormat.auto, label_column="feats")
    assert feats[1][1] == [[0, 1, "Case=Nom"]]
    xpos = read(tmp_path / "a.conllu", CONLLU, CorpusFormat.auto, label_column="5")
    assert xpos[0][1][2] == [6, 9, "pvg+ef+sf"]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("가 A\n나\n", {}, "line 2 has 1 column, line 1 has 2"),
        ("가 A\n나 B C\n", {}, "line 2 has 3 columns, line 1 has 2"),
        ("가 A\n", {"label_column": "3"}, "line 1 has 2 columns, and corpus.label_column=3"),
        ("가 A\n", {"label_column": "upos"}, "corpus.label_column=upos: the columns"),
        ("가 A\n", {"label_column": "1"}, "corpus.label_column=1: this is the column of the text"),
        ("가\tO\n\tO\n", {}, "line 2 has an empty token"),
        ("가\tO\n나\t\n", {}, "line 2 has an empty label"),
        ("가 O\n나 I-A\n", {}, "line 2: I-A follows O; a span begins with B-A"),
        ("가 O\n\n나 I-A\n", {}, "line 3: I-A begins the sentence"),
    ],
)
def test_errors(tmp_path: Path, text: str, settings: dict[str, str], message: str) -> None:
    settings = {"text_column": "1", "label_column": "2", **settings}
    error_of(lambda: read(tmp_path / "a", text, **settings), message)


def test_errors_of_conllu(tmp_path: Path) -> None:
    for text, message in (
        ("1\t가\n", "line 1 has 2 columns, CoNLL-U has 10"),
        ("x" + CONLLU.splitlines()[-1][1:], "line 1 has the ID 'x'"),
    ):
        with pytest.raises(CorpusError, match=message):
            read(tmp_path / "a", text, CorpusFormat.conllu, label_column="upos")
    with pytest.raises(CorpusError, match=r"corpus.label_column=pos: .* or one of id, form"):
        read(tmp_path / "a", CONLLU, CorpusFormat.conllu, label_column="pos")
    for label in ("form", "FORM", "2"):
        with pytest.raises(CorpusError, match=r"\(corpus.text_column=text\); name the column"):
            read(tmp_path / "a", CONLLU, CorpusFormat.conllu, label_column=label)


def test_spans_in_json_lines(tmp_path: Path) -> None:
    record = {"text": "서울로", "spans": [[0, 2, "LC"]]}
    text = json.dumps(record, ensure_ascii=False)
    records = read(tmp_path / "a", text, CorpusFormat.jsonl, label_column="spans")
    assert records == [("서울로", [[0, 2, "LC"]])]
