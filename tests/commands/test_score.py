"""The command: tables in files and pipes, and error messages."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import LIGHT, ROOT, Command, TinyCorpus
from tiny_runs import finish, make_settings, prepare_tiny

from korlm.utils.errors import CorpusError

TEXT = "나는 집에 간다.\n\n \n우리는 책을 본다.\n뷁\t밥을 먹는다."
COLUMNS = (
    "doc_id line eojeol eojeol_text morph tag surprisal entropy unknown open_surprisal position "
    "position_in_eojeol char_begin char_end num_syllables log_frequency previous_surprisal "
    "previous_num_syllables previous_log_frequency"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("scored")
    prepared = prepare_tiny(folder)
    finish(make_settings(prepared), prepared, folder / "run")
    return folder / "run"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "글.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def rows_in(tsv: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tsv, newline=""), delimiter="\t"))


def total(rows: list[dict[str, str]], name: str = "surprisal") -> float:
    return sum(float(row[name]) for row in rows)


def test_text_is_normalized_as_in_training(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path
) -> None:
    options = [*tiny.overrides, *LIGHT, "trainer.max_steps=1", "hydra.run.dir=run"]
    trained = korlm("train", *options, "corpus.unicode=nfkc")
    assert trained.code == 0, trained.err
    text = tmp_path / "글.txt"
    text.write_text("나는 ¨ ＡＢ\u200b를 본다.\n", encoding="utf-8")
    for level, column in (("morph", "eojeol_text"), ("eojeol", "eojeol_text")):
        ended = korlm("score", "run=run", f"input={text}", "device=cpu", f"unit={level}")
        assert ended.code == 0, ended.err
        written = [row[column] for row in rows_in(ended.out)]
        assert list(dict.fromkeys(written))[:4] == ["나는", "\u0308", "AB를", "본다."]


def test_rows_of_json_without_text_are_counted(korlm: Command, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "나는 간다."}\n{"text": null}\n', encoding="utf-8")
    command = ("score", f"run={run}", f"input={path}", "device=cpu", "unit=sentence")
    assert "line 2 has null under 'text'" in korlm(*command).error
    ended = korlm(*command, "corpus.skip_without_text=true")
    assert ended.code == 0 and len(rows_in(ended.out)) == 1
    assert "left out: 1 (first in" in ended.err


def test_morphs_on_standard_output(korlm: Command, run: Path, text: Path) -> None:
    ended = korlm("score", f"run={run}", f"input={text}", "device=cpu")
    assert ended.code == 0, ended.err
    rows = rows_in(ended.out)
    assert list(rows[0]) == COLUMNS.split()
    assert "".join(row["morph"] for row in rows).replace("<eos>", "|") == (
        "나는▁집에▁간다.|우리는▁책을▁본다.|뷁▁밥을▁먹는다.|"
    )
    assert [row["line"] for row in rows if row["morph"] == "<eos>"] == ["1", "4", "5"]
    assert {row["doc_id"] for row in rows} == {"글.txt"}
    assert [row["eojeol_text"] for row in rows[:3]] == ["나는"] * 3
    (unknown,) = [row for row in rows if row["morph"] == "뷁"]
    assert unknown["unknown"] == "true"
    assert float(unknown["open_surprisal"]) > float(unknown["surprisal"])
    assert all(0 <= float(row["entropy"]) <= 6 for row in rows)
    assert len(ended.err.splitlines()) == 1
    assert f"5 lines (3 ok, 2 empty), {len(rows)} tokens, " in ended.err
    assert "1 unknown" in ended.err
    assert not list(text.parent.glob("outputs*")) and not list(text.parent.glob(".hydra"))


def test_all_tables_of_one_pass(korlm: Command, run: Path, text: Path) -> None:
    ended = korlm(
        "score",
        *(f"run={run}", f"input={text}", "context=carried", "output=m.parquet"),
        *("eojeol_output=e.tsv.gz", "sentence_output=s.tsv"),
    )
    assert ended.code == 0, ended.err
    assert ended.out == ""
    morphs = pq.read_table("m.parquet")
    assert morphs.column_names == COLUMNS.split()
    eojeols = rows_in(gzip.decompress(Path("e.tsv.gz").read_bytes()).decode())
    sentences = rows_in(Path("s.tsv").read_text("utf-8"))
    assert [row["eojeol_text"] for row in eojeols[:4]] == ["나는", "집에", "간다.", "NA"]
    texts = [row["text"] for row in sentences]
    assert texts == [
        "나는 집에 간다.",
        "우리는 책을 본다.",
        "뷁\t밥을 먹는다.",
    ]
    for name in ("surprisal", "open_surprisal"):
        exact = sum(morphs[name].to_pylist())
        assert total(eojeols, name) == pytest.approx(exact, abs=1e-3)
        assert total(sentences, name) == pytest.approx(exact, abs=1e-3)
    assert not list(text.parent.glob("*.tmp"))


def test_the_mean_is_the_loss_of_evaluation(korlm: Command, run: Path) -> None:
    assert korlm("evaluate", f"run={run}", "adapt=false", "plot=false").code == 0
    (result,) = run.glob("evaluations/*/metrics.json")
    figures = json.loads(result.read_text("utf-8"))["valid"]
    valid = run.parent / "valid.txt"
    for context, mode in (("line", "reset"), ("carried", "carried")):
        for entropy in ("true", "false"):
            given = [f"run={run}", f"input={valid}", f"context={context}", f"entropy={entropy}"]
            rows = rows_in(korlm("score", *given).out)
            assert len(rows) == figures[mode]["num_tokens"]
            loss = total(rows) * 0.6931471805599453 / len(rows)
            assert loss == pytest.approx(figures[mode]["loss"], abs=1e-5)
            bits = total(rows, "open_surprisal") / figures[mode]["num_chars"]
            assert bits == pytest.approx(figures[mode]["bits_per_char"], abs=1e-5)


def test_several_inputs_and_layouts(korlm: Command, run: Path, text: Path) -> None:
    Path("rows.tsv").write_text("id\t말\n1\t나는 간다.\n2\t너는 잔다.\n", encoding="utf-8")
    given = f"input=[{text.name},rows.tsv]"
    ended = korlm("score", f"run={run}", given, "corpus.text_column=말", "unit=sentence")
    assert ended.code == 0, ended.err
    lines = [(row["doc_id"], row["line"]) for row in rows_in(ended.out)]
    assert lines[:3] == [("글.txt", "1"), ("글.txt", "4"), ("글.txt", "5")]
    assert lines[3:] == [("rows.tsv#1", "1"), ("rows.tsv#2", "1")]
    given = ["input='*.txt'", "corpus.document_unit=blank_line", "unit=sentence"]
    ended = korlm("score", f"run={run}", *given)
    assert [row["doc_id"] for row in rows_in(ended.out)] == ["글.txt#1", "글.txt#2", "글.txt#2"]


def test_other_columns_and_frequencies(korlm: Command, run: Path, tmp_path: Path) -> None:
    """The tables keep the columns of every file; eojeols have their count in train."""
    Path("a.tsv").write_text('item\ttext\tline\n1\t나는 간다.\t"가"\n', encoding="utf-8")
    Path("b.csv").write_text('text,"말, 뜻"\n"나는 집에 간다.",x\n', encoding="utf-8")
    records = [{"text": "나는 간다.", "item": 7, "of": [1]}, {"text": "너는 간다.", "by": "z"}]
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    Path("c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    pq.write_table(pa.table({"n": [5], "text": ["나는 간다."]}), "d.parquet")
    Path("e.txt").write_text("나는 간다.\n", encoding="utf-8")
    files = "input=[a.tsv,b.csv,c.jsonl,d.parquet,e.txt]"
    options = [f"run={run}", files, "device=cpu", "plot=p.png"]
    ended = korlm("score", *options, "unit=eojeol", "sentence_output=s.parquet")
    assert ended.code == 0, ended.err
    kept = {"item": ["1", "", "7", "", "", ""], "말, 뜻": ["", "x", "", "", "", ""]}
    kept |= {"input_line": ['"가"', *[""] * 5], "n": ["", "", "", "", "5", ""]}
    sentences = pq.read_table("s.parquet")
    assert sentences.column_names[-4:] == ["item", "input_line", "말, 뜻", "n"]
    for name, values in kept.items():
        assert [value or "" for value in sentences[name].to_pylist()] == values
    rows = rows_in(ended.out)
    assert [row["item"] for row in rows][:4] == ["1", "1", "1", "NA"]
    train = (run.parent / "train.txt").read_text("utf-8").split()
    found = {
        row["eojeol_text"]: float(row["log_frequency"]) for row in rows if row["eojeol"] != "NA"
    }
    for eojeol, frequency in found.items():
        assert frequency == pytest.approx(math.log1p(train.count(eojeol)), abs=1e-5)
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")
    ended = korlm("score", f"run={run}", "input=a.tsv", "unit=sentence", "corpus.keep_columns=[]")
    assert "item" not in rows_in(ended.out)[0]
    ended = korlm("score", f"run={run}", "input=a.tsv", "corpus.keep_columns=[condition]")
    assert "a.tsv: row 1 is read as the header and has no column 'condition'" in ended.error


def test_eojeols_without_the_prepared_corpus(korlm: Command, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, "copy")
    assert korlm("export", "run=copy", "output=export", "formats=[safetensors]").code == 0
    prepared = next(path.parent for path in run.parent.rglob("vocab.tsv"))
    prepared.rename(tmp_path / "moved")
    try:
        Path("a.txt").write_text("나는 간다.\n", encoding="utf-8")
        ended = korlm("score", "run=export", "input=a.txt", "unit=eojeol", "device=cpu")
    finally:
        (tmp_path / "moved").rename(prepared)
    assert ended.code == 0 and "eojeols have no log_frequency: " in ended.err
    assert {row["log_frequency"] for row in rows_in(ended.out)} == {"NA"}


def start(run: Path, *overrides: str, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "korlm.score", f"run={run}", *overrides]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, **{**pipes, **options})  # type: ignore[call-overload]


def test_from_pipe_to_pipe(run: Path) -> None:
    out, err = start(run, "input=-", "unit=eojeol").communicate("나는 간다.\n너도".encode())
    results = [row["eojeol_text"] for row in rows_in(out.decode())]
    assert results == [
        "나는",
        "간다.",
        "NA",
        "너도",
        "NA",
    ]
    assert err.decode().startswith("2 lines (2 ok), ")


@pytest.mark.parametrize("also", [None, "eojeol_output=e.tsv", "plot=e.png"])
def test_a_closed_pipe(run: Path, tmp_path: Path, also: str | None) -> None:
    """It is an error only if another file is lost."""
    path = tmp_path / "long.txt"
    path.write_text("나는 집에 간다.\n" * 30_000, encoding="utf-8")
    overrides = [f"input={path}", "entropy=false"]
    other = ""
    if also is not None:
        key, _, name = also.partition("=")
        other = str(tmp_path / name)
        overrides.append(f"{key}={other}")
    process = start(run, *overrides, stdin=subprocess.DEVNULL)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith(b"doc_id")
    process.stdout.close()
    message = f"korlm: standard output was closed: {other} not written; give output=FILE\n"
    assert process.wait(60) == int(bool(also))
    assert process.stderr.read().decode() == (message if also else "")
    process.stderr.close()
    assert [p.name for p in tmp_path.iterdir()] == ["long.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_standard_output_is_full(run: Path, text: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = start(run, f"input={text}", stdout=full, stdin=subprocess.DEVNULL)
        _, err = process.communicate()
    assert process.returncode == 1
    assert err.decode() == (
        "korlm: standard output: the disk is full: free some space and run the same command again\n"
    )


MISTAKES = {
    "input=missing.txt": "input: missing.txt is neither a file, a folder nor a glob of files",
    "input=empty.txt": "empty.txt: the file is empty; leave it out",
    "input=blank.txt": "blank.txt: holds no text (blank lines, or no rows); leave it out",
    "input=binary.txt": "binary.txt: a binary file, not text",
    "input=cp949.txt": "cp949.txt: line 2, byte 1 (0xb5",
    "input=[]": "input=[]: give a file, a list of files",
    "input=null": "input=None: give a file, a list of files",
    "output=o.xlsx": "output=o.xlsx: must end in .tsv, .tsv.gz or .parquet, or be -",
    "eojeol_output=-": "eojeol_output=-: must end in .tsv, .tsv.gz or .parquet",
    "output=missing/o.tsv": "output=missing/o.tsv: the folder missing does not exist; create it",
    "plot=p.jpg": "plot=p.jpg: must end in .png",
    "plot=missing/p.png": "plot=missing/p.png: the folder missing does not exist",
    "corpus.keep_columns=['*',a]": "corpus.keep_columns=['*', 'a']: must name columns or keys",
    "run=nowhere": "nowhere: no such directory",
    "context=word": "context",
    "unit=word": "unit",
    "corpus.files=[a.txt]": "corpus.files: there is no such setting",
    "corpus.encodin=cp949": "did you mean corpus.encoding",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(korlm: Command, run: Path, text: Path, mistake: str) -> None:
    for name, data in (
        ("empty.txt", b""),
        ("blank.txt", b"\n \n"),
        ("binary.txt", bytes(range(16)) * 8),
        ("cp949.txt", b"ok\n" + "둘째 줄".encode("cp949")),
    ):
        Path(name).write_bytes(data)
    given = {"run": str(run), "input": str(text), "output": "kept.tsv"}
    key, _, value = mistake.partition("=")
    given[key] = value
    before = sorted(Path().iterdir())
    error = korlm("score", *(f"{k}={v}" for k, v in given.items())).error
    assert MISTAKES[mistake] in error
    assert sorted(Path().iterdir()) == before


def test_two_tables_in_one_file(korlm: Command, run: Path, text: Path) -> None:
    error = korlm(
        "score", f"run={run}", f"input={text}", "output=o.tsv", "eojeol_output=o.tsv"
    ).error
    assert "output=o.tsv: is the file of two tables" in error


def test_a_table_does_not_replace_the_input(korlm: Command, run: Path) -> None:
    Path("items.tsv").write_text("item\ttext\n1\t가 나\n", encoding="utf-8")
    for key in ("output", "sentence_output"):
        error = korlm("score", f"run={run}", "input=*.tsv", f"{key}={Path().resolve()}/items.tsv")
        assert "items.tsv: is also read; give another file" in error.error
    assert Path("items.tsv").read_text(encoding="utf-8").startswith("item\ttext")


def test_in_python(korlm: Command, run: Path, text: Path) -> None:
    import korlm as package  # the fixture has its name

    command = rows_in(korlm("score", f"run={run}", f"input={text}", "unit=eojeol").out)
    with package.load(run) as trained:
        table = trained.surprisal(TEXT.split("\n"), unit="eojeol")
        fast = trained.surprisal(TEXT.split("\n"), entropy=False)
        assert "entropy" not in fast.column_names
        assert len(trained.surprisal([], context="carried")) == 0
        whole = trained.surprisal("나는 간다", unit="eojeol")
        assert whole.equals(trained.surprisal(["나는 간다"], unit="eojeol"))
    assert table["eojeol_text"].to_pylist() == [
        None if row["eojeol_text"] == "NA" else row["eojeol_text"] for row in command
    ]
    results = [float(row["surprisal"]) for row in command]
    assert table["surprisal"].to_pylist() == pytest.approx(results, abs=1e-5)
    assert sum(fast["surprisal"].to_pylist()) == pytest.approx(sum(results), abs=1e-3)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "texts is None: give a str"),
        (["가", None], "text 2 is None: give a str"),
        (["가", 3.5], r"text 2 is 3\.5: give a str"),
        ([b"abc"], "text 1 is b'abc': give a str"),
        ("가\ud800", r"text 1 has a lone surrogate \(U\+D800\) as character 2"),
    ],
)
def test_texts_that_are_not_str(run: Path, texts: Any, message: str) -> None:
    import korlm as package

    with pytest.raises(CorpusError, match=f"^{message}"):
        package.load(run).surprisal(texts)
