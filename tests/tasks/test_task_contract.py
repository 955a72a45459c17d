"""Contract of all tasks: padding, order of the batch, resuming, loading, ten examples learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import assert_equal, break_off, comparable, finish, make_settings, resume, stop_after
from tiny_runs import start as start_run

from korlm.config import (
    ClassificationConfig,
    CorpusConfig,
    GRUConfig,
    LSTMConfig,
    Pooling,
    RNNConfig,
    Seq2SeqConfig,
    TokenizerConfig,
    TrainSettings,
    VocabConfig,
)
from korlm.dataset.example_batches import pad
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared
from korlm.prediction.task_run import load_task_run

REVIEWS = [
    *(("좋다", "긍정"), ("정말 좋다", "긍정"), ("참 재미있는 영화다", "긍정"), ("또 보자", "긍정")),
    *(("싫다", "부정"), ("정말 싫다", "부정"), ("참 지루한 영화다", "부정"), ("졸리다", "부정")),
    *(("그저 그렇다", "보통"), ("보통이다", "보통")),
]


NAMES = [
    *(("rome", "로마"), ("oslo", "오슬로"), ("bern", "베른"), ("nice", "니스"), ("kiev", "키예프")),
    *(
        ("lima", "리마"),
        ("la paz", "라 파스"),
        ("suva", "수바"),
        ("bath", "바스"),
        ("turin", "토리노"),
    ),
]


def prepare_table(folder: Path, rows: list[tuple[str, str]], **columns: str) -> Prepared:
    """Prepare a table whose rows are train, valid and test."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{text}\t{annotation}\n" for text, annotation in rows)
    files = {}
    for split in ("train", "valid", "test"):
        path = folder / f"{split}.tsv"
        path.write_text(f"text\tannotation\n{lines}", encoding="utf-8")
        files[split] = [str(path)]
    corpus = CorpusConfig(name="tiny", **files, **columns)
    return prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), folder)


@dataclasses.dataclass
class TaskCase:
    """A task with ten examples that it can learn by heart."""

    prepare: Callable[[Path], Prepared]
    config: Any
    texts: list[str]
    is_learned: Callable[[dict[str, float]], bool]
    units: int = 16


TASKS = {
    "classification": TaskCase(
        lambda folder: prepare_table(folder, REVIEWS, label_column="annotation"),
        ClassificationConfig(name="classification"),
        [text for text, _ in REVIEWS],
        lambda metrics: metrics["accuracy"] == 1.0,
    ),
    "seq2seq": TaskCase(
        lambda folder: prepare_table(folder, NAMES, target_column="annotation"),
        Seq2SeqConfig(name="seq2seq"),
        [source for source, _ in NAMES],
        lambda metrics: metrics["exact_match"] == 1.0 and metrics["cer"] == 0.0,
        units=32,
    ),
    "seq2seq_sampled": TaskCase(  # no step reads the given tokens alone, and each reads the last
        lambda folder: prepare_table(folder, NAMES, target_column="annotation"),
        Seq2SeqConfig(name="seq2seq", teacher_forcing=0.8, input_feeding=True, num_beams=2),
        [source for source, _ in NAMES],
        lambda metrics: metrics["exact_match"] == 1.0,
        units=32,
    ),
}


@pytest.fixture(params=TASKS)
def case(request: pytest.FixtureRequest) -> TaskCase:
    return TASKS[request.param]


def settings_of(case: TaskCase, prepared: Prepared, epochs: int, **parts: Any) -> TrainSettings:
    """Small settings of a task."""
    model = LSTMConfig(name="lstm", embedding_dim=case.units, hidden_dim=case.units, num_layers=1)
    parts = {"model": model, "task": case.config} | parts
    return make_settings(prepared, {"epochs": epochs}, **parts)


def test_ten_examples_are_learned_and_predicted(case: TaskCase, tmp_path: Path) -> None:
    prepared = case.prepare(tmp_path / "data")
    finished = finish(settings_of(case, prepared, 60), prepared, tmp_path / "run")
    assert all(case.is_learned(metrics) for metrics in finished.splits.values())
    run = load_task_run(tmp_path / "run")
    with run.reader() as reader:
        together = run.predict(case.texts, reader)
        alone = [run.predict([text], reader)[0] for text in case.texts]
        backwards = run.predict(case.texts[::-1], reader)[::-1]
    assert [list(row) for row in together] == [run.predictor.schema.names] * len(case.texts)
    for other in (alone, backwards):  # neither padding nor the order changes a prediction
        for row, other_row in zip(together, other, strict=True):
            for key, value in row.items():
                expected = pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
                assert other_row[key] == expected, key


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


def test_a_blank_text_is_predicted(case: TaskCase, tmp_path: Path) -> None:
    prepared = case.prepare(tmp_path / "data")
    finish(settings_of(case, prepared, 1), prepared, tmp_path / "run")
    rows = load_task_run(tmp_path / "run").predict(["", case.texts[0], " "])
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
