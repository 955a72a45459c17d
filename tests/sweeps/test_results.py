"""A sweep ends with one table, whether its jobs succeeded or failed."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import weakref
from pathlib import Path
from typing import Any

import pytest
from conftest import LIGHT, SMALL, Command, TinyCorpus
from task_cases import TASKS
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

from korlm.config.metrics import default_objective
from korlm.sweeps.callback import SweepTable
from korlm.sweeps.results import (
    JobResult,
    build_rows,
    comparable_objective,
    finished_cost,
    note_failure,
    read_jobs,
)
from korlm.training.session import TrainingSession
from korlm.utils.errors import CheckpointError, OutputError, install_command

Row = dict[str, str]


def read_table(folder: Path) -> list[Row]:
    (path,) = folder.glob("outputs/sweeps/*/results.tsv")
    head, *rows = (line.split("\t") for line in path.read_text("utf-8").splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_sweep_ends_in_a_table(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    """Two models, each with a valid and an invalid batch size."""
    ended = korlm(
        "train",
        *("-m", "model=gru,rnn", *tiny.overrides, *LIGHT, "trainer.max_steps=3"),
        *("batches.batch_size=9999,4", "model.hidden_dim=8"),
    )
    assert ended.code == 1
    rows = read_table(tmp_path)
    assert list(rows[0]) == [
        *("model", "batches.batch_size", "valid_perplexity", "test_perplexity"),
        *("valid_bits_per_char", "valid_eojeol_perplexity", "num_parameters"),
        *("tokens_per_second", "seconds", "job", "failure"),
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
        assert len(list((job / "tensorboard").glob("events*"))) == 1
        assert row["job"] == f"model={row['model']}_batches.batch_size=4"
        assert f"model={row['model']}" in (job / ".hydra" / "overrides.yaml").read_text("utf-8")
    assert int(rows[0]["num_parameters"]) != int(rows[1]["num_parameters"])
    for row in rows[2:]:
        assert row["valid_perplexity"] == ""
        assert row["failure"].startswith("train has ")
        assert "batches.batch_size=9999" in row["failure"]
    assert len(list(tmp_path.glob("outputs/prepared/[!.]*"))) == 1
    assert "4 jobs, best first" in ended.out
    *_, picture, best = ended.out.splitlines()
    assert picture.endswith("sweep.png: plot of the sweep")
    assert " best: python -m korlm.train model=" in best
    table = ended.out[ended.out.index("best first") :].splitlines()[1:-2]
    assert [line.split()[0] for line in table] == ["model", *(row["model"] for row in rows)]


def test_networks_and_an_n_gram_model(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    """TensorBoard names jobs by models; the n-gram model is a line of the same length."""
    settings = ["tokenizer=syllable", "model=ngram,window", "trainer.max_steps=3", "name=b"]
    ended = korlm("train", "-m", *tiny.overrides, *settings, "trainer.device=cpu")
    assert ended.code == 0, ended.err
    (sweep,) = tmp_path.glob("outputs/sweeps/*")
    watched = EventMultiplexer(size_guidance={"tensors": 0, "scalars": 0})
    watched.AddRunsFromDirectory("outputs").Reload()
    names = {job: f"sweeps/{sweep.name}/model={job}/tensorboard" for job in ("ngram", "window")}
    assert set(watched.Runs()) == set(names.values())
    for tag in ("loss/valid", "perplexity/valid", "perplexity/test", "quality/bits_per_char"):
        line, curve = (
            [(e.step, e.tensor_proto) for e in watched.Tensors(names[job], tag)] for job in names
        )
        assert [step for step, _ in line] == [1, 3] and line[0][1] == line[1][1]
        assert curve[-1][0] == 3
    listed = [line.split()[0] for line in ended.out.splitlines()[-4:-2]]
    assert sorted(listed) == ["ngram", "window"]
    assert f" model={listed[0]} " in ended.out.splitlines()[-1]


def leave(folder: Path, name: str, overrides: list[str], **splits: object) -> None:
    """Write the folder of a job, which is finished if it has metrics: split -> metrics."""
    (folder / name / ".hydra").mkdir(parents=True)
    text = "".join(f"- {override}\n" for override in overrides)
    (folder / name / ".hydra" / "overrides.yaml").write_text(text, "utf-8")
    if splits:
        (folder / name / "metrics.json").write_text(json.dumps(splits), "utf-8")


def valid(perplexity: object) -> dict[str, object]:
    return {"perplexity": perplexity, "bits_per_char": 1.0}


def test_the_best_is_first_and_failures_are_last(tmp_path: Path) -> None:
    leave(tmp_path, "10", ["seed=1"], valid=valid(5))
    leave(tmp_path, "9", ["seed=2"], valid=valid(5))
    leave(tmp_path, "0", ["seed=3"])
    leave(tmp_path, "1", ["seed=4"], valid=valid(None))  # infinite objective
    leave(tmp_path, "2", ["seed=5"], valid=valid(3.5))
    leave(tmp_path, "3", ["seed=6"])
    note_failure(tmp_path / "0", OutputError("the disk\tis full;\nmake room"))
    jobs = read_jobs(tmp_path)
    assert [job.name for job in jobs] == ["2", "9", "10", "1", "0", "3"]
    assert jobs[3].metrics["valid_perplexity"] == math.inf
    assert [job.failure for job in jobs[-2:]] == ["the disk is full; make room", "not finished"]
    head, *rows = build_rows(jobs)
    assert head == ["seed", "valid_perplexity", "valid_bits_per_char", "job", "failure"]
    assert rows[0] == ["5", 3.5, 1.0, "2", ""]
    assert rows[-1] == ["6", "", "", "3", "not finished"]


def test_other_tokens_are_ordered_by_comparable_metrics(tmp_path: Path) -> None:
    figures = {"kkma": (40.0, 4.0, 9e5), "syllable": (20.0, 4.5, 8e5), "okt": (60.0, 3.9, 7e5)}
    for name, (perplexity, bits, eojeol) in figures.items():
        metrics = {"perplexity": perplexity, "bits_per_char": bits, "eojeol_perplexity": eojeol}
        leave(tmp_path, name, [f"tokenizer={name}"], valid=metrics)
    head, *rows = build_rows(read_jobs(tmp_path))
    assert head[1:-1] == ["valid_perplexity", "valid_bits_per_char", "valid_eojeol_perplexity"]
    assert [row[0] for row in rows] == ["okt", "kkma", "syllable"]
    assert rows[0][1:-1] == [60.0, 3.9, 7e5]


@pytest.mark.parametrize("objective", ["test.perplexity", "train.loss"])
def test_other_tokens_and_another_split(tmp_path: Path, objective: str) -> None:
    split, key = objective.split(".")
    for name, bits in {"kkma": 2.0, "okt": 3.0, "syllable": 1.0}.items():
        metrics = {split: {key: 4.0, "bits_per_char": bits}}
        leave(tmp_path, name, [f"tokenizer={name}"], **metrics)
    jobs = read_jobs(tmp_path, objective)
    assert [job.name for job in jobs] == ["syllable", "kkma", "okt"]
    used = comparable_objective(jobs, objective)
    head, *rows = build_rows(jobs, used)
    assert used == f"{split}.bits_per_char" and head[1] == f"{split}_bits_per_char"
    assert [row[1] for row in rows] == [1.0, 2.0, 3.0]


def test_jobs_of_a_task_are_ordered_by_its_objective(tmp_path: Path) -> None:
    for name, accuracy in {"kkma": 0.5, "syllable": 0.75, "okt": None}.items():
        metrics = {"num_examples": 4, "accuracy": accuracy, "loss": 0.5}
        leave(tmp_path, name, [f"tokenizer={name}"], valid=metrics, test=metrics)
    jobs = read_jobs(tmp_path, "valid.accuracy")
    # The loss of this task is not per token.
    assert comparable_objective(jobs, "valid.loss") == "valid.loss"
    head, *rows = build_rows(jobs, "valid.accuracy")
    assert head == ["tokenizer", "valid_accuracy", "test_accuracy", "job"]
    assert [row[:3] for row in rows] == [
        *(["syllable", 0.75, 0.75], ["kkma", 0.5, 0.5]),
        ["okt", "", ""],
    ]


def test_losses_per_token_of_a_task(tmp_path: Path) -> None:
    """The loss of seq2seq is per token of the targets."""
    for name, (loss, exact) in {"kkma": (1.0, 0.25), "syllable": (2.0, 0.5)}.items():
        metrics = {"num_examples": 4, "num_tokens": 9, "loss": loss, "exact_match": exact}
        leave(tmp_path, name, [f"tokenizer={name}"], valid=metrics)
    jobs = read_jobs(tmp_path, "valid.loss")
    assert comparable_objective(jobs, "valid.loss") == "valid.exact_match"
    assert [job.name for job in jobs] == ["syllable", "kkma"]
    assert comparable_objective(jobs[:1], "valid.loss") == "valid.loss"


@pytest.mark.parametrize("name", ["classification", "spans", "seq2seq"])
def test_a_sweep_over_a_task(korlm: Command, tmp_path: Path, name: str) -> None:
    case = TASKS[name]
    folder = case.prepare(tmp_path / "data").folder
    task = case.config.name
    labels = [f"task.labels={case.config.labels.value}"] if task == "tagging" else []
    ended = korlm(
        "train",
        *("-m", f"task={task}", *labels, f"prepared={folder}", *SMALL, "batches=sentence"),
        *("trainer.max_steps=4", "seed=1,2"),
    )
    assert ended.code == 0, ended.err
    rows = read_table(tmp_path)
    objective = default_objective(task)
    column = objective.replace(".", "_")
    assert list(rows[0])[:3] == ["seed", column, column.replace("valid", "test")]
    assert "valid_bits_per_char" not in rows[0]
    values = [float(row[column]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert f"2 jobs, best first by {objective};" in ended.out
    (sweep,) = tmp_path.glob("outputs/sweeps/*")
    ended = korlm("report", f"sweep={sweep}")
    assert ended.code == 0 and ended.err == "", ended.err
    page = (tmp_path / "report.html").read_text("utf-8")
    positions = [page.index(f"</svg>{row['job']}</td>") for row in rows]
    assert positions == sorted(positions) or len(set(values)) < len(values)
    assert f"valid {objective.partition('.')[2].replace('_', ' ')}" in page


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
        f"tokenizer=kiwi: kiwipiepy is not installed: {install_command('kiwipiepy')}"
    )


def test_foreign_objects_are_named_by_type(tmp_path: Path) -> None:
    note_failure(tmp_path, RuntimeError("mat1 and mat2\ncannot be multiplied"))
    text = (tmp_path / "failed.txt").read_text("utf-8")
    assert text == "RuntimeError: mat1 and mat2 cannot be multiplied\n"


def test_a_failure_that_cannot_be_written(tmp_path: Path) -> None:
    """The error of the job is raised; an empty file, which a full disk left, is no success."""
    note_failure(tmp_path / "missing", OutputError("the disk is full"))
    leave(tmp_path, "0", ["seed=1"])
    (tmp_path / "0" / "failed.txt").touch()
    assert [job.failure for job in read_jobs(tmp_path)] == ["not finished"]


def test_settings_that_vary() -> None:
    """A setting that only some jobs have, and one added with a plus."""
    jobs = [
        JobResult("0", {"a": "1", "b": "x"}, {"seconds": 1.0}, ""),
        JobResult("1", {"a": "1", "b": "y", "c": "[1,2]"}, {"seconds": 2.0}, ""),
    ]
    assert build_rows(jobs) == [
        ["b", "c", "seconds", "job"],
        ["x", "", 1.0, "0"],
        ["y", "[1,2]", 2.0, "1"],
    ]


@pytest.mark.parametrize("folder", [None, Path("nowhere")])
def test_no_jobs_no_table(folder: Path | None, tmp_path: Path) -> None:
    SweepTable.folder = folder and tmp_path / folder
    SweepTable.write_results()
    assert SweepTable.folder is None
    assert not list(tmp_path.iterdir())


def test_overrides_with_a_plus(tmp_path: Path) -> None:
    leave(tmp_path, "0", ["+experiment=smoke", "name='a=b'"], valid=valid(2.0))
    assert read_jobs(tmp_path)[0].overrides == {"experiment": "smoke", "name": "'a=b'"}


def test_any_figure_orders_the_table(tmp_path: Path) -> None:
    for name, (loss, speed) in {"0": (1.0, 5.0), "1": (2.0, 9.0), "2": (None, None)}.items():
        leave(tmp_path, name, [f"seed={name}"], test={"loss": loss, "tokens_per_second": speed})
    leave(tmp_path, "3", ["seed=3"])
    for objective, order in {
        "test.loss": ["0", "1", "2", "3"],
        "test.tokens_per_second": ["1", "0", "2", "3"],  # the only metric that is better if larger
    }.items():
        jobs = read_jobs(tmp_path, objective)
        assert [job.name for job in jobs] == order
        assert build_rows(jobs, objective)[0][1] == objective.replace(".", "_")


def test_unlike_tokens_are_seen_in_the_counts_too(tmp_path: Path) -> None:
    """Jobs can differ in a setting that is no override, such as prepared=one,other."""
    for name, count in {"0": 10, "1": 11}.items():
        metrics = {"num_tokens": count, "num_unk": 1, "perplexity": 2.0}
        leave(tmp_path, name, [f"prepared={name}"], valid=metrics)
    jobs = read_jobs(tmp_path)
    assert comparable_objective(jobs, "test.loss") == "test.bits_per_char"
    assert comparable_objective(jobs, "test.seconds") == "test.seconds"
    assert comparable_objective(jobs[:1], "test.loss") == "test.loss"


def test_settings_of_speed_do_not_change_tokens(tmp_path: Path) -> None:
    for number in (1, 2):
        overrides = [f"tokenizer.workers={number}", "vocab.min_freq=2"]
        leave(tmp_path, str(number), overrides, valid=valid(number))
    assert comparable_objective(read_jobs(tmp_path), "valid.perplexity") == "valid.perplexity"


def test_a_number_that_is_too_large(tmp_path: Path) -> None:
    leave(tmp_path, "0", ["seed=0"], valid=valid(10**400))
    leave(tmp_path, "1", ["seed=1"], valid=valid(3.0))
    assert [job.name for job in read_jobs(tmp_path)] == ["1", "0"]
    with pytest.raises(CheckpointError, match="damaged"):
        finished_cost("valid.perplexity", tmp_path / "0")


def test_a_thousand_jobs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1000):
        overrides = [f"seed={number}", "optimizer.lr=0.1"]
        leave(tmp_path, str(number), overrides, valid=valid(5 + number))
    SweepTable.folder, SweepTable.objective = tmp_path, "valid.perplexity"
    with caplog.at_level(logging.INFO):
        assert SweepTable.write_results() == tmp_path
    assert len((tmp_path / "results.tsv").read_text("utf-8").splitlines()) == 1001
    assert "1000 jobs, best first by valid.perplexity" in caplog.text
    assert "… and 940 more" in caplog.text
    assert (tmp_path / "sweep.png").is_file()


def test_a_failed_job_frees_its_memory(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra raises the exception of a job at the end of the sweep; the message is complete."""
    living: list[weakref.ref[TrainingSession]] = []
    alive: list[int] = []

    def fail(self: TrainingSession) -> None:
        alive.append(sum(ref() is not None for ref in living))
        living.append(weakref.ref(self))
        raise ValueError("ours")

    monkeypatch.setattr(TrainingSession, "fit", fail)
    with pytest.raises(ValueError, match="ours"):
        korlm("train", "-m", *tiny.overrides, *LIGHT, "seed=1,2,3")
    assert alive == [0, 0, 0]
    logs = [path.read_text("utf-8") for path in tmp_path.glob("outputs/sweeps/*/*/train.log")]
    assert len(logs) == 3 and all("Traceback" in log for log in logs)


@pytest.mark.parametrize("objective", ["valid.perplexity", "train.tokens_per_second"])
def test_the_command_returns_the_objective_of_sweepers(
    korlm: Command,
    tiny: TinyCorpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    objective: str,
) -> None:
    given: list[float] = []

    def note(self: SweepTable, config: Any, job_return: Any, **others: Any) -> None:
        given.append(job_return.return_value)

    monkeypatch.setattr(SweepTable, "on_job_end", note)
    command = [*tiny.overrides, *LIGHT, "trainer.max_steps=1", f"objective={objective}"]
    for _ in range(2):  # the second time, the job is finished
        assert korlm("train", "-m", *command, "hydra.sweep.dir=here").code == 0
    split, key = objective.split(".")
    value = json.loads((tmp_path / "here/0/metrics.json").read_text("utf-8"))[split][key]
    assert given == [-value if key == "tokens_per_second" else value] * 2
