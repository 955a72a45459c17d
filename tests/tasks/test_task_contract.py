"""Contract of all tasks: padding, order of the batch, resuming, loading, ten examples learned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from task_cases import TASKS, TaskCase, settings_of
from tiny_runs import assert_equal, break_off, comparable, finish, resume, stop_after
from tiny_runs import start as start_run

from korlm.api.runs import TaskRun
from korlm.config import (
    ClassificationConfig,
    GRUConfig,
    Pooling,
    RNNConfig,
    SGDConfig,
    TaggingConfig,
)
from korlm.dataset.example_batches import pad


@pytest.fixture(params=TASKS)
def case(request: pytest.FixtureRequest) -> TaskCase:
    return TASKS[request.param]


def test_ten_examples_are_learned_and_predicted(case: TaskCase, tmp_path: Path) -> None:
    prepared = case.prepare(tmp_path / "data", case.copies)
    finished = finish(settings_of(case, prepared, case.epochs), prepared, tmp_path / "run")
    assert all(case.is_learned(metrics) for metrics in finished.splits.values())
    run = TaskRun.load(tmp_path / "run")
    with run:
        together = run.predict(case.texts)
        alone = [run.predict([text])[0] for text in case.texts]
        backwards = run.predict(case.texts[::-1])[::-1]
    assert [list(row) for row in together] == [run.predictor.schema.names] * len(case.texts)
    for other in (alone, backwards):  # neither padding nor the order changes a prediction
        for row, other_row in zip(together, other, strict=True):
            for key, value in row.items():
                assert other_row[key] == approximately(value), key


def test_a_resumed_run_equals_an_unbroken_one(case: TaskCase, tmp_path: Path) -> None:
    prepared = case.prepare(tmp_path / "data")
    settings = settings_of(case, prepared, 3)
    whole = finish(settings, prepared, tmp_path / "whole")
    broken = start_run(settings, prepared, tmp_path / "broken")
    stop_after(broken, 4)
    break_off(broken)
    resumed = resume(prepared, tmp_path / "broken")
    assert comparable(resumed.fit()) == comparable(whole.splits)
    assert_equal(resumed.model.state_dict(), whole.run.model.state_dict())


def test_parts_of_a_batch_make_up_the_whole(case: TaskCase, tmp_path: Path) -> None:
    if getattr(case.config, "teacher_forcing", 1.0) < 1:
        pytest.skip("each part samples other tokens")
    prepared = case.prepare(tmp_path / "data")
    task = case.config
    if isinstance(task, TaggingConfig):
        task = dataclasses.replace(task, ngram_dropout=0.0, linear_dropout=0.0)
    # Adam would divide the last digits of small gradients by their own size.
    sgd = SGDConfig(name="sgd", lr=0.1)
    settings = settings_of(case, prepared, 2, task=task, optimizer=sgd)
    whole = finish(settings, prepared, tmp_path / "whole")
    batches = dataclasses.replace(settings.batches, max_tokens=8)
    settings = dataclasses.replace(settings, batches=batches)
    parts = finish(settings, prepared, tmp_path / "parts")
    assert comparable(parts.splits) == approximately(comparable(whole.splits))
    weights = parts.run.model.state_dict(), whole.run.model.state_dict()
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


def approximately(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: approximately(part) for key, part in value.items()}
    if isinstance(value, list):
        return [approximately(part) for part in value]
    return pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value


def test_a_blank_text_is_predicted(case: TaskCase, tmp_path: Path) -> None:
    prepared = case.prepare(tmp_path / "data")
    finish(settings_of(case, prepared, 1), prepared, tmp_path / "run")
    rows = TaskRun.load(tmp_path / "run").predict(["", case.texts[0], " "])
    assert len(rows) == 3


@pytest.mark.parametrize(
    "model",
    [
        GRUConfig(name="gru", embedding_dim=8, hidden_dim=8, num_layers=2),
        RNNConfig(name="rnn", embedding_dim=8, hidden_dim=8, num_layers=1),
    ],
    ids=lambda model: model.name,
)
def test_other_encoders(case: TaskCase, model: Any, tmp_path: Path) -> None:
    prepared = case.prepare(tmp_path / "data")
    one_direction = dataclasses.replace(case.config, bidirectional=False)
    for number, config in enumerate((case.config, one_direction)):
        settings = settings_of(case, prepared, 1, model=model, task=config)
        finish(settings, prepared, tmp_path / str(number))


@pytest.mark.parametrize("pooling", Pooling)
def test_padding_never_changes_the_logits(pooling: Pooling, tmp_path: Path) -> None:
    case = TASKS["classification"]
    prepared = case.prepare(tmp_path / "data")
    config = ClassificationConfig(name="classification", pooling=pooling)
    session = start_run(settings_of(case, prepared, 1, task=config), prepared, tmp_path / "run")
    model = session.model.eval()
    ids = prepared.ids("train").astype("int64")
    sequences = [ids[:3], ids[3:10], ids[10:11]]
    together = model(*pad(sequences))
    alone = torch.cat([model(*pad([sequence])) for sequence in sequences])
    torch.testing.assert_close(together, alone)
