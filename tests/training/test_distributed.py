"""Two processes train like one, write one run directory, and stop and resume together."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import two_processes
from conftest import LIGHT, ROOT, TinyCorpus
from task_cases import TASKS
from task_cases import settings_of as task_settings
from tiny_runs import BUSY_MODEL, Splits, comparable, make_settings, resume, start
from two_processes import Pair, Trained, ended

from korlm.config import (
    AdamConfig,
    BatchesConfig,
    InitialState,
    LSTMConfig,
    Mode,
    TaggingConfig,
)
from korlm.dataset.prepared import Prepared
from korlm.runs.checkpoint import load_checkpoint
from korlm.utils.distributed import SINGLE_PROCESS
from korlm.utils.errors import TrainingError

MODES = pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.value)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Yield two processes."""
    both = Pair()
    yield both
    both.close()


def settings_of(prepared: Prepared, mode: Mode, **parts: object) -> two_processes.TrainSettings:
    """Return settings without dropout, with batches of which the second process gets few rows."""
    return make_settings(
        prepared,
        trainer={"eval_every": 3, "sample_tokens": 3},
        **{
            "batches": BatchesConfig(mode=mode, batch_size=4, eval_batch_size=3, bptt_length=9),
            "model": LSTMConfig(
                name="lstm",
                embedding_dim=8,
                hidden_dim=8,
                num_layers=2,
                initial_state=InitialState.learned,
            ),
            # A larger eps, or Adam would normalize away a wrong scale of all gradients.
            "optimizer": AdamConfig(name="adamw", lr=0.02, weight_decay=0.1, eps=1e-3),
            **parts,
        },
    )


def close_to(result: Trained, expected: Trained) -> None:
    """Check for equality up to the order of float additions."""
    assert result.step == expected.step
    for name, parameter in expected.parameters.items():
        torch.testing.assert_close(result.parameters[name], parameter, rtol=1e-4, atol=1e-5)
    assert result.splits is not None and expected.splits is not None
    same(result.splits, expected.splits)


def same(result: Splits, expected: Splits) -> None:
    for split, figures in comparable(expected).items():
        assert comparable(result)[split] == pytest.approx(figures, rel=1e-4)


@MODES
def test_two_train_as_one(pair: Pair, prepared: Prepared, tmp_path: Path, mode: Mode) -> None:
    settings = settings_of(prepared, mode)
    run = start(settings, prepared, tmp_path / "one")
    sizes = {len(batch.inputs) for batch in run.task.train_batches.epoch(0)}
    assert mode is Mode.stream or 1 in sizes, "no batch leaves the second process without rows"
    one = ended(run)
    first, second = pair.run(two_processes.train, settings, prepared.folder, tmp_path / "two")
    close_to(first, one)
    assert first.losses == pytest.approx(one.losses, rel=1e-5)
    assert second.losses == first.losses
    assert comparable(second.splits) == comparable(first.splits)
    for name, parameter in first.parameters.items():
        assert torch.equal(second.parameters[name], parameter)


@pytest.mark.parametrize("name", ["classification", "spans", "spaces", "seq2seq"])
def test_two_train_a_task_as_one(pair: Pair, name: str, tmp_path: Path) -> None:
    case = TASKS[name]
    prepared = case.prepare(tmp_path / "data")
    parts: dict[str, Any] = {
        "batches": BatchesConfig(mode=Mode.sentence, batch_size=4, eval_batch_size=3),
        "optimizer": AdamConfig(name="adamw", lr=0.02, eps=1e-3),
    }
    if isinstance(case.config, TaggingConfig):  # each process would drop other n-grams
        parts["task"] = dataclasses.replace(case.config, ngram_dropout=0.0)
    settings = task_settings(case, prepared, 3, **parts)
    one = ended(start(settings, prepared, tmp_path / "one"))
    first, second = pair.run(two_processes.train, settings, prepared.folder, tmp_path / "two")
    close_to(first, one)
    assert first.losses == pytest.approx(one.losses, rel=1e-5)
    assert comparable(second.splits) == comparable(first.splits)


def test_stopped_and_resumed_to_the_bit(pair: Pair, prepared: Prepared, tmp_path: Path) -> None:
    """With dropout: each process continues with its own random states and columns."""
    settings = settings_of(prepared, Mode.stream, model=BUSY_MODEL)
    whole = pair.run(two_processes.train, settings, prepared.folder, tmp_path / "whole")
    broken = tmp_path / "broken"
    stopped = pair.run(two_processes.train, settings, prepared.folder, broken, 5, 1)
    assert [trained.step for trained in stopped] == [5, 5]
    again = f"resume with: torchrun --nproc-per-node 2 -m korlm.train resume={broken}"
    assert [again in (trained.interrupted or "") for trained in stopped] == [True, True]
    random = load_checkpoint(broken / "checkpoints" / "last.pt")["rng"]
    assert not torch.equal(random[0]["cpu"], random[1]["cpu"])
    resumed = pair.run(two_processes.resume_run, prepared.folder, broken)
    for mine, theirs in zip(resumed, whole, strict=True):
        assert comparable(mine.splits) == comparable(theirs.splits)
        for name, parameter in theirs.parameters.items():
            assert torch.equal(mine.parameters[name], parameter)


def test_resuming_with_another_number_of_processes(
    pair: Pair, prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(prepared, Mode.stream)
    one = ended(start(settings, prepared, tmp_path / "one"))
    pair.run(two_processes.train, settings, prepared.folder, tmp_path / "from_two", 5)
    with caplog.at_level(logging.WARNING):
        close_to(ended(resume(prepared, tmp_path / "from_two")), one)
    assert "resuming a run of 2 process(es) with 1" in caplog.text
    ended(start(settings, prepared, tmp_path / "from_one"), stop_step=5)
    for trained in pair.run(two_processes.resume_run, prepared.folder, tmp_path / "from_one"):
        close_to(trained, one)


def test_one_run_directory(pair: Pair, tiny: TinyCorpus, tmp_path: Path) -> None:
    few = ["trainer.max_steps=3", "trainer.eval_every=2"]
    first, second = pair.run(two_processes.command, tmp_path, *tiny.overrides, *LIGHT, *few)
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert "by 2 processes" in first[1]
    assert second[1:] == ("", "")
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("tensorboard/events")}
    assert len(events) == 1
    assert {name for name in files if not name.startswith("tensorboard")} == {
        *(
            "metrics.json",
            "training.json",
            "train.log",
            "checkpoints/last.pt",
            "checkpoints/best.pt",
        ),
        *(f".hydra/{name}.yaml" for name in ("config", "hydra", "overrides")),
    }
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}


MISTAKES = {
    "batches.batch_size=5": ("batches.batch_size=5", "a multiple of 2"),
    "-m": ("-m", "without torchrun"),
    "trainer.epochs=0": ("trainer.epochs=0", "in [1, 1000000]"),
    "corpus.train=[nowhere.txt]": ("nowhere.txt", "neither a file"),
    "batches.batch_size=4000": ("batches.batch_size=4000", "lower one of them"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_error_is_printed_once(
    pair: Pair, tiny: TinyCorpus, tmp_path: Path, mistake: str
) -> None:
    key = mistake.split("=")[0]
    overrides = [o for o in (*tiny.overrides, *LIGHT) if not o.startswith(f"{key}=")]
    first, second = pair.run(two_processes.command, tmp_path, *overrides, mistake)
    assert (first[0], second[0]) == (1, 1)
    assert len(first[2].splitlines()) == 1, first[2]
    for word in MISTAKES[mistake]:
        assert word in first[2]
    assert second[1:] == ("", "")
    assert not list(tmp_path.glob("outputs/runs/*")) + list(tmp_path.glob(".hydra"))


def test_an_error_of_one_rank_is_printed_by_it(pair: Pair) -> None:
    first, second = pair.run(two_processes.only_the_second_fails)
    assert (first[2], second[2]) == ("", "process 1 of 2: korlm: here alone\n")


def test_a_lost_process_is_reported_in_one_line(pair: Pair) -> None:
    first, _ = pair.run(two_processes.one_leaves)
    assert isinstance(first, TrainingError)
    assert "lost the connection to another process" in str(first)
    assert len(str(first).splitlines()) == 1


def test_other_errors_of_a_collective_are_not_lost_connections(pair: Pair) -> None:
    assert pair.run(two_processes.sum_what_cannot_be_summed) == ["RuntimeError"] * 2


def test_collectives(pair: Pair) -> None:
    assert pair.run(two_processes.use_all_collectives) == [(True, False, 4.0, [0, 1], 5.0)] * 2


def test_gradients_that_only_some_have(pair: Pair) -> None:
    expected = [[3.0, 3.0], [1.0, 2.0, 3.0], None, [3.0, 3.0, 3.0]]
    assert pair.run(two_processes.half_a_gradient) == [expected] * 2


def test_publish_and_wait_for(pair: Pair) -> None:
    assert pair.run(two_processes.publish_and_wait)[1] == ["가", "b"]


def test_collectives_of_a_single_process() -> None:
    parameter = torch.nn.Parameter(torch.ones(1))
    with SINGLE_PROCESS as group:
        group.publish("a")
        group.sum_gradients([parameter])
        assert parameter.grad is None
        assert group.any_rank(True) and not group.any_rank(False)
        assert group.sum(torch.ones(2)).tolist() == [1, 1]
        assert group.gather("a") == ["a"]


def test_torchrun(tiny: TinyCorpus, tmp_path: Path) -> None:
    """The documented command."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "korlm.train", *tiny.overrides, *LIGHT]
    done = subprocess.run(
        [*command, "trainer.max_steps=2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best model, of step 2") == 1
    assert len(list(tmp_path.glob("outputs/runs/*/metrics.json"))) == 1
