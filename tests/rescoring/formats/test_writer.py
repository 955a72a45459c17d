"""Written lists can be read again, with the hypotheses in the new order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from korlm.config import LengthUnit, ListFormat
from korlm.rescoring.formats.reader import ReadOptions, open_lists
from korlm.rescoring.formats.writer import check_output, open_writer
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.rescoring.rescore import Rescored, RescoredList
from korlm.utils.errors import ConfigError, OutputError


def lists_of(nbests: list[NBest]) -> list[RescoredList]:
    """Return each list reversed."""
    return [
        (nbest, [Rescored(hyp, hyp.score / 2, -9.5, 4) for hyp in reversed(nbest.hyps)])
        for nbest in nbests
    ]


def nbests(fields: bool = False) -> list[NBest]:
    records = {
        utt: [{"text": text, "score": -score, "x": [1]} for score, text in enumerate(texts)]
        for utt, texts in (("a", ["가 나", "다", ""]), ("b", ["라"]))
    }
    return [
        NBest(
            utt,
            [Hypothesis(r["text"], r["score"], utt, r) for r in rows],  # type: ignore[arg-type]
            fields={"id": utt, "nbest": rows, "more": 1} if fields else None,
        )
        for utt, rows in records.items()
    ]


def read_again(path: Path, sign: int = 1, field: str = "score") -> list[tuple[str, list[object]]]:
    lists = open_lists(path, ReadOptions(sign=sign, score_field=field))
    return [(nbest.utt, [(hyp.text, hyp.score) for hyp in nbest.hyps]) for nbest in lists]


EXPECTED = [("a", [("", -1.0), ("다", -0.5), ("가 나", 0.0)]), ("b", [("라", 0.0)])]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("list_format", "name"),
    [(ListFormat.text, "n.txt"), (ListFormat.jsonl, "n.jsonl"), (ListFormat.espnet, "folder")],
)
def test_round_trip(tmp_path: Path, list_format: ListFormat, name: str, sign: int) -> None:
    path = tmp_path / "new" / name
    check_output(str(path), list_format, False)
    with open_writer(str(path), list_format, False, sign, LengthUnit.token) as write:
        for rescored in lists_of(nbests(fields=list_format is ListFormat.jsonl)):
            write([rescored])
        assert not path.exists()
    field = "total_score" if list_format is ListFormat.jsonl else "score"
    assert read_again(path, sign, field) == EXPECTED
    assert [entry.name for entry in path.parent.iterdir()] == [name]


def test_jsonl_keeps_other_keys(tmp_path: Path) -> None:
    path = tmp_path / "n.jsonl"
    with open_writer(str(path), ListFormat.jsonl, False, 1, LengthUnit.eojeol) as write:
        write(lists_of(nbests(fields=True)))
    first = json.loads(path.read_text("utf-8").splitlines()[0])
    assert (first["id"], first["more"], len(first["nbest"])) == ("a", 1, 3)
    assert first["nbest"][1] == {
        **{"text": "다", "score": -1, "x": [1]},
        **{"total_score": -0.5, "lm_log_prob": -9.5, "num_eojeol": 4},
    }
    with open_writer(str(path), ListFormat.jsonl, False, 1, LengthUnit.char) as write:
        write(lists_of(nbests()))
    assert json.loads(path.read_text("utf-8").splitlines()[1])["num_chars"] == 4


def test_espnet_json_keeps_other_keys(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    rows = [{"rec_text": text, "score": score} for text, score in (("가", 0.0), ("나", -1.0))]
    hyps = [Hypothesis(r["rec_text"], r["score"], "a", r) for r in rows]  # type: ignore[arg-type]
    lists = [NBest(utt, hyps, fields={"x": 1, "output": rows}) for utt in "ab"]
    with open_writer(str(path), ListFormat.espnet_json, False, 1, LengthUnit.token) as write:
        for rescored in lists_of(lists):
            write([rescored])
    data = json.loads(path.read_text("utf-8"))
    assert list(data["utts"]) == ["a", "b"] and data["utts"]["a"]["x"] == 1
    assert data["utts"]["b"]["output"][0] == {
        **rows[1],
        **{"total_score": -0.5, "lm_log_prob": -9.5, "num_tokens": 4},
    }
    assert read_again(path) == [(utt, [("나", -1.0), ("가", 0.0)]) for utt in "ab"]


@pytest.mark.parametrize("list_format", [ListFormat.text, ListFormat.jsonl, ListFormat.espnet])
def test_one_best(
    tmp_path: Path, list_format: ListFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_writer("-", list_format, True, 1, LengthUnit.token) as write:
        write(lists_of(nbests()))
    assert capsys.readouterr().out == "a\nb 라\n"


def test_an_interrupted_output_is_removed(tmp_path: Path) -> None:
    for list_format, name in ((ListFormat.text, "n.txt"), (ListFormat.espnet, "folder")):
        with (
            pytest.raises(KeyboardInterrupt),
            open_writer(str(tmp_path / name), list_format, False, 1, LengthUnit.token) as write,
        ):
            write(lists_of(nbests()))
            raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_impossible_outputs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="output=-: ESPnet's lists are a folder"):
        check_output("-", ListFormat.espnet, False)
    check_output("-", ListFormat.espnet, True)
    with pytest.raises(ConfigError, match="exists already"):
        check_output(str(tmp_path / "file"), ListFormat.espnet, False)
    with pytest.raises(ConfigError, match="is a folder; give a file"):
        check_output(str(tmp_path), ListFormat.text, False)
    with (
        pytest.raises(OutputError, match="a file is in the way"),
        open_writer(str(tmp_path / "file" / "n"), ListFormat.text, True, 1, LengthUnit.token),
    ):
        pass
