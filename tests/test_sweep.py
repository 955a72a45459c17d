"""A sweep ends in one table, whatever became of its jobs."""

from __future__ import annotations

import importlib.metadata
import json
import math
from pathlib import Path

import pytest
from conftest import LIGHT, Command, TinyCorpus

from korlm.errors import OutputError
from korlm.sweep import Job, SweepTable, build_rows, note_failure, read_jobs

Row = dict[str, str]


def read_table(folder: Path) -> list[Row]:
    (path,) = folder.glob("outputs/sweeps/*/results.tsv")
    head, *rows = (line.split("\t") for line in path.read_text("utf-8").splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_sweep_ends_in_a_table(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    """Two models, each with a batch size that works and one that does not."""
    ended = korlm(
        "train",
        *("-m", "model=gru,rnn", *tiny.overrides, *LIGHT, "trainer.max_steps=3"),
        *("batches.batch_size=9999,4", "model.hidden_dim=8"),
    )
    assert ended.code == 1
    rows = read_table(tmp_path)
    assert list(rows[0]) == [
        *("job", "model", "batches.batch_size", "valid_perplexity", "test_perplexity"),
        *("valid_bits_per_char", "valid_eojeol_perplexity", "num_parameters"),
        *("tokens_per_second", "seconds", "failure"),
    ]
    perplexities = [float(row["valid_perplexity"]) for row in rows[:2]]
    assert perplexities == sorted(perplexities)
    for row in rows[:2]:
        job = next(tmp_path.glob("outputs/sweeps/*")) / row["job"]
        metrics = json.loads((job / "metrics.json").read_text("utf-8"))
        training = json.loads((job / "training.json").read_text("utf-8"))
        assert float(row["valid_perplexity"]) == metrics["valid"]["perplexity"]
        assert float(row["test_perplexity"]) == metrics["test"]["perplexity"]
        assert float(row["valid_bits_per_char"]) == metrics["valid"]["bits_per_char"]
        assert int(row["num_parameters"]) == training["num_parameters"]
        assert float(row["seconds"]) == training["seconds"] > 0
        assert training["steps"] == 3
        assert training["num_tokens"] == 3 * 4 * 8
        assert row["batches.batch_size"] == "4"
        assert row["failure"] == ""
        assert row["model"] in (job / ".hydra" / "overrides.yaml").read_text("utf-8")
    assert int(rows[0]["num_parameters"]) != int(rows[1]["num_parameters"])
    for row in rows[2:]:
        assert row["valid_perplexity"] == ""
        assert row["failure"].startswith("train has ")
        assert "batches.batch_size=9999" in row["failure"]
    assert "4 jobs, the best first" in ended.out
    told = ended.out[ended.out.index("the best first") :].splitlines()[1:]
    assert [line.split()[0] for line in told] == ["job", *(row["job"] for row in rows)]


def test_without_failures_there_is_no_such_column(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path
) -> None:
    ended = korlm("train", "-m", *tiny.overrides, *LIGHT, "trainer.max_steps=2", "seed=1,2")
    assert ended.code == 0, ended.err
    assert [list(row)[:2] for row in read_table(tmp_path)] == [["job", "seed"]] * 2
    assert "failure" not in read_table(tmp_path)[0]


def test_a_run_by_itself_has_no_table(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    ended = korlm("train", *tiny.overrides, *LIGHT, "trainer.max_steps=2")
    assert ended.code == 0, ended.err
    assert not list(tmp_path.rglob("results.tsv"))
    assert "the best first" not in ended.out


def leave(folder: Path, name: str, overrides: list[str], perplexity: object = ...) -> None:
    """A job's folder, as a job leaves it."""
    (folder / name / ".hydra").mkdir(parents=True)
    text = "".join(f"- {override}\n" for override in overrides)
    (folder / name / ".hydra" / "overrides.yaml").write_text(text, "utf-8")
    if perplexity is not ...:
        metrics = {"valid": {"perplexity": perplexity, "bits_per_char": 1.0}}
        (folder / name / "metrics.json").write_text(json.dumps(metrics), "utf-8")


def test_the_best_is_first_and_failures_are_last(tmp_path: Path) -> None:
    leave(tmp_path, "10", ["seed=1"], 5)
    leave(tmp_path, "9", ["seed=2"], 5)
    leave(tmp_path, "0", ["seed=3"])
    leave(tmp_path, "1", ["seed=4"], None)  # beyond all floats
    leave(tmp_path, "2", ["seed=5"], 3.5)
    leave(tmp_path, "3", ["seed=6"])
    note_failure(tmp_path / "0", OutputError("the disk\tis full;\nmake room"))
    jobs = read_jobs(tmp_path)
    assert [job.name for job in jobs] == ["2", "9", "10", "1", "0", "3"]
    assert jobs[3].figures["valid_perplexity"] == math.inf
    assert [job.failure for job in jobs[-2:]] == ["the disk is full; make room", "not finished"]
    head, *rows = build_rows(jobs)
    assert head == ["job", "seed", "valid_perplexity", "valid_bits_per_char", "failure"]
    assert rows[0] == ["2", "5", 3.5, 1.0, ""]
    assert rows[-1] == ["3", "6", "", "", "not finished"]


def test_other_tokens_are_ordered_by_what_can_be_compared(tmp_path: Path) -> None:
    figures = {"kkma": (40.0, 4.0, 9e5), "syllable": (20.0, 4.5, 8e5), "okt": (60.0, 3.9, 7e5)}
    for name, (perplexity, bits, eojeol) in figures.items():
        leave(tmp_path, name, [f"tokenizer={name}"], perplexity)
        metrics = {"perplexity": perplexity, "bits_per_char": bits, "eojeol_perplexity": eojeol}
        (tmp_path / name / "metrics.json").write_text(json.dumps({"valid": metrics}), "utf-8")
    head, *rows = build_rows(read_jobs(tmp_path))
    assert head[2:] == ["valid_perplexity", "valid_bits_per_char", "valid_eojeol_perplexity"]
    assert [row[0] for row in rows] == ["okt", "kkma", "syllable"]
    assert rows[0][2:] == [60.0, 3.9, 7e5]


def test_a_tokenizer_that_is_not_installed_fails_alone(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    named = "tokenizer=kiwi,syllable,mecab"
    few = [setting for setting in LIGHT if not setting.startswith("tokenizer")]
    ended = korlm("train", "-m", *tiny.overrides, *few, named, "trainer.max_steps=2")
    assert ended.code == 1
    rows = read_table(tmp_path)
    assert [row["tokenizer"] for row in rows] == ["syllable", "kiwi", "mecab"]
    assert rows[0]["failure"] == "" and float(rows[0]["valid_bits_per_char"]) > 0
    assert rows[1]["failure"] == (
        "tokenizer=kiwi: kiwipiepy is not installed: pip install 'korlm[kiwi]'"
    )


def test_what_is_not_ours_is_named_by_its_kind(tmp_path: Path) -> None:
    note_failure(tmp_path, RuntimeError("mat1 and mat2\ncannot be multiplied"))
    text = (tmp_path / "failed.txt").read_text("utf-8")
    assert text == "RuntimeError: mat1 and mat2 cannot be multiplied\n"


def test_settings_that_vary() -> None:
    """One that only some jobs have, and one with a plus before it."""
    jobs = [
        Job("0", {"a": "1", "b": "x"}, {"seconds": 1.0}, ""),
        Job("1", {"a": "1", "b": "y", "c": "[1,2]"}, {"seconds": 2.0}, ""),
    ]
    assert build_rows(jobs) == [
        ["job", "b", "c", "seconds"],
        ["0", "x", "", 1.0],
        ["1", "y", "[1,2]", 2.0],
    ]


@pytest.mark.parametrize("folder", [None, Path("nowhere")])
def test_no_jobs_no_table(folder: Path | None, tmp_path: Path) -> None:
    SweepTable.folder = folder and tmp_path / folder
    SweepTable.tell()
    assert SweepTable.folder is None
    assert not list(tmp_path.iterdir())


def test_overrides_with_a_plus(tmp_path: Path) -> None:
    leave(tmp_path, "0", ["+experiment=smoke", "name='a=b'"], 2.0)
    assert read_jobs(tmp_path)[0].overrides == {"experiment": "smoke", "name": "'a=b'"}
