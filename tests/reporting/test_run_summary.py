"""Summaries of run directories: finished, unfinished, damaged."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from korlm.reporting.run_summary import (
    RunSummary,
    best_first,
    comparable,
    differing_settings,
    find_jobs,
    find_runs,
    number,
    objective_of,
    read_run,
)
from korlm.runs.tensorboard_events import read_events
from korlm.training.trackers.tensorboard import TensorBoardLogger
from korlm.utils.errors import ConfigError


def make_run(folder: Path, loss: float = 2.0, tokens: int = 10, settings: str = "seed: 1") -> Path:
    """Write a run directory as training does."""
    tracker = TensorBoardLogger(folder / "tensorboard")
    for step in (10, 20):
        tracker.log_scalars(step, {"loss/train": loss + 1 / step})
    figures = {"num_tokens": tokens, "num_unk": 1, "num_chars": 30, "loss": loss}
    figures |= {"perplexity": math.exp(loss), "bits_per_char": loss, "oov_rate": 0.1}
    figures["eojeol_perplexity"] = 9.0
    tracker.log_scalars(20, {"loss/valid": loss})
    tracker.log_samples(20, {"samples": "나는 <b>학교</b>에"})
    tracker.close()
    (folder / "metrics.json").write_text(json.dumps({"valid": figures}))
    (folder / "training.json").write_text('{"num_parameters": 7, "steps": 20, "seconds": 1.5}')
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(settings, "utf-8")
    return folder


def test_a_finished_run(tmp_path: Path) -> None:
    text = "model:\n  name: lstm\nname: 실험\noutputs: ${oc.env:HOME}\n"
    run = read_run(make_run(tmp_path / "a", settings=text), "a")
    assert run.problems == ()
    assert run.settings == {"model.name": "lstm", "name": "실험"}
    assert run.curve("loss/train") == [(10, pytest.approx(2.1)), (20, pytest.approx(2.05))]
    assert run.curve("loss/valid") == [(20, 2.0)]
    assert run.tensorboard.sample == (20, "나는 <b>학교</b>에")
    assert run.metric("valid", "perplexity") == math.exp(2)
    assert math.isnan(run.metric("test", "perplexity"))
    assert run.training["num_parameters"] == 7


def test_overrides_of_resumes_apply_and_interpolations_are_not_resolved(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", settings="trainer:\n  epochs: 2\nname: ${oc.env:HOME}\n")
    for second, epochs in ((1, 3), (2, 4)):
        resumed = folder / ".hydra" / f"resumed_2026-01-01_00-00-0{second}"
        resumed.mkdir()
        (resumed / "overrides.yaml").write_text(f"- resume=x\n- trainer.epochs={epochs}\n")
    settings = read_run(folder, "a").settings
    assert settings == {"trainer.epochs": "4", "name": "${oc.env:HOME}"}


def test_overrides_of_resumes_are_values_not_text(tmp_path: Path) -> None:
    text = "model:\n  name: lstm\noptimizer:\n  lr: 0.001\n  betas:\n  - 0.9\n  - 0.99\nname: a\n"
    text += "trainer:\n  clip_norm: 1.0\n  epochs: 2\n"
    folder = make_run(tmp_path / "a", settings=text)
    resumed = folder / ".hydra" / "resumed_2026-01-01_00-00-00"
    resumed.mkdir()
    overrides = ["optimizer.lr=1e-3", "optimizer.betas=[0.9,0.99]", "name='a'", "model=lstm"]
    overrides += ["trainer.clip_norm=1", "trainer.epochs=2"]  # typed like their settings
    (resumed / "overrides.yaml").write_text(json.dumps([*overrides, "~name"]), "utf-8")
    run, same = read_run(folder, "a"), read_run(make_run(tmp_path / "b", settings=text), "b")
    assert run.settings == same.settings and not run.problems
    for damage in ("optimizer.lr=[", "optimizer.lr=1" + 400 * "0"):
        (resumed / "overrides.yaml").write_text(f"- '{damage}'", "utf-8")
        assert read_run(folder, "a").problems == ("the settings in .hydra are damaged",)


def test_points_after_the_resumed_checkpoint_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = TensorBoardLogger(tmp_path)
    for step in (10, 20, 30):
        first.log_scalars(step, {"loss/train": float(step)})
    first.close()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 10)  # file names have seconds
    second = TensorBoardLogger(tmp_path, first_step=21)
    second.log_scalars(30, {"loss/train": 3.0})
    second.close()
    assert read_events(tmp_path).curves["loss/train"] == [(10, 10.0), (20, 20.0), (30, 3.0)]


def test_problems_of_an_empty_run(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").mkdir()
    run = read_run(tmp_path, "a")
    assert [problem.split(":")[0] for problem in run.problems] == [
        "not finished",
        "no .hydra/config.yaml",
        "no TensorBoard files",
    ]
    (tmp_path / "metrics.json").write_text("{}")
    assert read_run(tmp_path, "a").problems[0] == "metrics.json has no metrics"
    (tmp_path / "failed.txt").write_text("the disk\nis full\n")
    assert read_run(tmp_path, "a").problems[0] == "the disk is full"


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    folder = make_run(tmp_path / "a")
    monkeypatch.setattr("korlm.reporting.run_summary.read_json", refuse)
    assert read_run(folder, "a").problems[0] == "metrics.json cannot be read: Permission denied"


@pytest.mark.parametrize("junk", ["", "{", "[1]", "\x00\xff", '{"valid": 3}'])
def test_damaged_files(tmp_path: Path, junk: str) -> None:
    folder = make_run(tmp_path / "a")
    for name in ("metrics.json", "training.json", ".hydra/config.yaml"):
        (folder / name).write_text(junk, "utf-8")
    (events,) = (folder / "tensorboard").iterdir()
    events.write_bytes(events.read_bytes()[:200] + junk.encode() + b"\x00" * 40)
    run = read_run(folder, "a")
    assert math.isnan(run.metric("valid", "loss"))
    assert bool(run.problems) == (junk != '{"valid": 3}') or run.tensorboard.problem


def test_number() -> None:
    assert number({"a": None}, "a") == math.inf
    assert number({"a": 2}, "a") == 2.0
    assert number({"a": 10**400}, "a") == math.inf
    assert all(math.isnan(number(bad, "a")) for bad in (None, [], {}, {"a": "2"}, {"a": {}}))


def test_find_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("2026-01-01_00-00-00_a", "2026-01-01_00-00-01_b"):
        make_run(tmp_path / "runs" / name)
    (tmp_path / "runs" / "other").mkdir()
    assert list(find_runs(["runs/*", "runs/2026-01-01_00-00-00_a"])) == ["a", "b"]
    for wrong in ("runs/other", "nowhere", "runs/x*"):
        with pytest.raises(ConfigError, match="runs="):
            find_runs([wrong])


def test_find_jobs(tmp_path: Path) -> None:
    for number_ in (0, 2, 10):
        (tmp_path / str(number_) / ".hydra").mkdir(parents=True)
    assert list(find_jobs(tmp_path)) == ["0", "2", "10"]
    with pytest.raises(ConfigError, match="contains no jobs"):
        find_jobs(tmp_path / "0")


def test_the_objective_of_a_task() -> None:
    def run(task: str, objective: str) -> RunSummary:
        return RunSummary("a", Path("a"), {"task.name": task, "objective": objective})

    assert objective_of([run("classification", "${korlm_objective:${task.name}}")]) == (
        "valid.accuracy"
    )
    assert objective_of([run("seq2seq", "test.cer")] * 2) == "test.cer"
    assert objective_of([run("seq2seq", "test.cer"), run("seq2seq", "valid.chrf")]) == (
        "valid.exact_match"
    )
    assert objective_of([run("tagging", "test.f1_PS")]) == "test.f1_PS"
    assert objective_of([run("other", "valid.<b>")]) == "valid.loss"
    assert objective_of([RunSummary("a", Path("a"))]) == "valid.perplexity"


def test_best_first(tmp_path: Path) -> None:
    a = read_run(make_run(tmp_path / "a", 2.0, settings="seed: 1\nname: x"), "a")
    b = read_run(make_run(tmp_path / "b", 1.0, settings="seed: 2\nname: x"), "b")
    (tmp_path / "c" / "tensorboard").mkdir(parents=True)
    c = read_run(tmp_path / "c", "c")
    assert differing_settings([a, b, c]) == ["seed"]
    assert comparable([a, b, c], "num_tokens")
    assert [run.name for run in best_first([c, a, b])] == ["b", "a", "c"]
    other = read_run(make_run(tmp_path / "d", tokens=99), "d")
    assert not comparable([a, other], "num_tokens")
    assert comparable([a, other], "num_chars")
