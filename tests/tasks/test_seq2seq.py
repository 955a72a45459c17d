"""Sequence to sequence: errors, metrics, predictions, schedules and selection of the best model."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_cases import PAIRS, TASKS, prepare_table, settings_of
from tiny_runs import finish, prepare_tiny
from tiny_runs import start as start_run

from korlm.api.runs import TaskRun
from korlm.config import (
    CorpusConfig,
    DecodedMetric,
    ForcingSchedule,
    LSTMConfig,
    Seq2SeqConfig,
    SubwordMode,
    TokenizerConfig,
    TrainSettings,
    VocabConfig,
)
from korlm.dataset.example_batches import pad
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared
from korlm.tasks.seq2seq.task import Seq2SeqTask, forcing_ratio
from korlm.training.optimizers import split_by_depth
from korlm.utils.errors import ConfigError, CorpusError, PreparedError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare_table(tmp_path_factory.mktemp("pairs"), PAIRS, target_column="annotation")


@pytest.fixture(scope="module")
def run(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> TaskRun:
    """Return a run that has learned its pairs."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    finish(settings(prepared, epochs=60), prepared, folder)
    return TaskRun.load(folder)


def settings(prepared: Prepared, epochs: int = 1, **options: Any) -> TrainSettings:
    model = options.pop("model", None)
    parts = {} if model is None else {"model": model}
    config = Seq2SeqConfig(name="seq2seq", **options)
    return settings_of(TASKS["seq2seq"], prepared, epochs, task=config, **parts)


def make_task(prepared: Prepared, folder: Path, **options: Any) -> Seq2SeqTask:
    return Seq2SeqTask(settings(prepared, **options), prepared, folder, torch.device("cpu"))


def test_a_corpus_without_targets(tmp_path: Path) -> None:
    plain = prepare_tiny(tmp_path)
    with pytest.raises(PreparedError, match=r"has no target texts; prepare it with corpus\.target"):
        start_run(settings(plain), plain, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "row, column, message",
    [
        (("oslo", " "), "annotation", "record 2 has no target text in 'annotation'"),
        ((" ", "오슬로"), "annotation", "record 2 has no text in 'text'"),
        (PAIRS[1], "hangul", ".*hangul"),
    ],
    ids=["target", "source", "column"],
)
def test_mistakes_in_a_table(
    tmp_path: Path, row: tuple[str, str], column: str, message: str
) -> None:
    with pytest.raises(CorpusError, match=rf"train\.tsv: {message}"):
        prepare_table(tmp_path, [PAIRS[0], row], target_column=column)


@pytest.mark.parametrize(
    "fraction, message",
    [(0.1, "pairs are too few to be split"), (0.0, "corpus.valid_fraction=0.0")],
)
def test_no_pairs_for_valid(tmp_path: Path, fraction: float, message: str) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("text\tannotation\noslo\t오슬로\nbonn\t본\n", encoding="utf-8")
    corpus = CorpusConfig(
        name="pairs", files=[str(path)], target_column="annotation", valid_fraction=fraction
    )
    with pytest.raises(CorpusError, match=re.escape(message)):
        prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), tmp_path)


def test_decoded_pairs_of_train_are_spread_over_the_corpus(tmp_path: Path) -> None:
    prepared = prepare_table(tmp_path, PAIRS, copies=3, target_column="annotation")
    task = make_task(prepared, tmp_path / "run")
    model = task.build_model(task.settings, prepared.vocab, ()).eval()
    with torch.inference_mode():
        batches = list(task.example_counts(model, "train"))
    decoded = [np.array(rows)[counts[:, 2:].any(1)] for rows, counts in batches]
    assert sorted(np.concatenate(decoded).tolist()) == [0, 3, 6, 9, 12, 16, 19, 22, 25, 29]


def test_long_pairs_are_left_out_of_training(prepared: Prepared, tmp_path: Path) -> None:
    task = make_task(prepared, tmp_path, max_length=6)
    inputs = [row for batch in task.train_batches.epoch(0) for row in batch.inputs]
    assert len(inputs) == 9  # "la paz" and <eos> are 7 tokens; no target is as long
    assert task.eval_batches["valid"].num_targets > task.train_batches.num_targets
    assert task.warnings(100) == [
        "1 of 10 pairs of train are longer than task.max_length=6 tokens and left out of "
        "training; raise it to use them"
    ]
    with pytest.raises(CorpusError, match=r"all pairs of train are longer than task\.max_length=2"):
        make_task(prepared, tmp_path, max_length=2)


def test_batches_hold_sources_and_targets(prepared: Prepared, tmp_path: Path) -> None:
    task = make_task(prepared, tmp_path)
    tokens = prepared.vocab.tokens
    seen = {}
    for batch in task.train_batches.epoch(0):
        assert batch.num_targets == int((batch.targets != 0).sum())
        for source, target in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
            texts = (
                "".join(tokens[i] for i in ids if i).split("<eos>") for ids in (source, target)
            )
            (first, after), (second, after_second) = texts
            assert after == after_second == ""
            seen[first.replace("▁", " ")] = second.replace("▁", " ")
    assert seen == dict(PAIRS)


def test_sources_of_the_same_length_are_sorted_by_their_targets(
    prepared: Prepared, tmp_path: Path
) -> None:
    lengths = [
        (int((source != 0).sum()), int((target != 0).sum()))
        for batch in make_task(prepared, tmp_path).eval_batches["valid"].epoch(0)
        for source, target in zip(batch.inputs, batch.targets, strict=True)
    ]
    assert len(set(lengths)) < len(lengths) == len(PAIRS)
    assert lengths == sorted(lengths, reverse=True)


def test_the_best_model_is_that_of_the_best_texts(prepared: Prepared, tmp_path: Path) -> None:
    for metric in DecodedMetric:
        task = make_task(prepared, tmp_path, select_by=metric)
        values = {"loss": 1.0, "exact_match": 0.1, "cer": 0.2, "chrf": 30.0, "bleu": 40.0}
        better = values | {"loss": 2.0, metric.value: 0.0 if metric is DecodedMetric.cer else 50.0}
        assert task.cost(better) < task.cost(values)


def test_a_model_of_nan_writes_nothing(prepared: Prepared, tmp_path: Path) -> None:
    task = make_task(prepared, tmp_path)
    model = task.build_model(task.settings, prepared.vocab, ()).eval()
    for parameter in model.parameters():
        parameter.data.fill_(math.nan)
    metrics = task.evaluate(model, "valid")
    assert math.isnan(metrics["loss"]) and metrics["exact_match"] == 0
    task.settings.trainer.sample_tokens = 1
    rows = task.samples(model)["samples"].splitlines()[2:]
    assert rows and all(row.endswith("|  |") for row in rows)
    assert task.images(model) == {}


def test_the_verdict_on_a_model_that_is_never_exact(prepared: Prepared, tmp_path: Path) -> None:
    assert "task.select_by=chrf" in make_task(prepared, tmp_path).verdict(0.0)
    assert make_task(prepared, tmp_path).verdict(-0.1) == ""
    assert make_task(prepared, tmp_path, select_by=DecodedMetric.chrf).verdict(0.0) == ""


def test_metrics_are_those_of_the_predictions(run: TaskRun, prepared: Prepared) -> None:
    task = Seq2SeqTask(run.settings, prepared, run.folder, run.device)
    metrics = task.evaluate(run.model, "valid")
    predictions = [row["prediction"] for row in run.predict([source for source, _ in PAIRS])]
    assert predictions == [target for _, target in PAIRS]
    assert (metrics["exact_match"], metrics["cer"], metrics["chrf"]) == (1.0, 0.0, 100.0)
    assert metrics["num_examples"] == 10
    assert metrics["num_tokens"] == sum(len(target) + 1 for _, target in PAIRS)
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))


def test_predictions_of_a_run(run: TaskRun) -> None:
    rows = run.predict(["rome", "", "oslo", "unknown ♥"])
    assert [row["prediction"] for row in rows[:3]] == ["로마", "", "오슬로"]
    assert rows[1]["log_prob"] is None and rows[0]["log_prob"] < 0
    assert rows[3]["prediction"]


def test_several_predictions_of_a_line(run: TaskRun) -> None:
    expected = run.predict(["rome", "", "oslo"])
    try:
        run.predictor.set_num_best(3)
        rows = run.predict(["rome", "", "oslo"])
    finally:
        run.predictor.set_num_best(1)
    names = ["prediction", "log_prob", "prediction_2", "log_prob_2", "prediction_3", "log_prob_3"]
    assert [list(row) for row in rows] == [names] * 3
    for row, first in zip(rows, expected, strict=True):
        assert row["prediction"] == first["prediction"]
    for row in (rows[0], rows[2]):
        assert len({row["prediction"], row["prediction_2"], row["prediction_3"]}) == 3
        assert row["log_prob"] > row["log_prob_2"] > row["log_prob_3"]
    with pytest.raises(ConfigError, match=r"num_best=6: .*task\.num_beams=5"):
        run.predictor.set_num_best(6)


def test_samples_and_attention(run: TaskRun, prepared: Prepared) -> None:
    trainer = dataclasses.replace(run.settings.trainer, sample_tokens=1)
    settings = dataclasses.replace(run.settings, trainer=trainer)
    task = Seq2SeqTask(settings, prepared, run.folder, run.device)
    (samples,) = task.samples(run.model).values()
    assert "| rome | 로마 | 로마 |" in samples
    images = task.images(run.model)
    assert list(images) == ["attention/1", "attention/2", "attention/3"]
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in images.values())


@pytest.mark.parametrize(
    "schedule, expected",
    [
        (ForcingSchedule.constant, [0.4, 0.4, 0.4]),
        (ForcingSchedule.linear, [1.0, 0.7, 0.4]),
        (ForcingSchedule.inverse_sigmoid, [1.0, 0.7, 0.4]),
    ],
)
def test_schedules(schedule: ForcingSchedule, expected: list[float]) -> None:
    config = Seq2SeqConfig("seq2seq", teacher_forcing=0.4, forcing_schedule=schedule)
    ratios = [forcing_ratio(config, progress) for progress in (0.0, 0.5, 1.0)]
    assert ratios == pytest.approx(expected, abs=2e-3)
    always = dataclasses.replace(config, teacher_forcing=1.0)
    assert forcing_ratio(always, 0.5) == 1


def test_the_schedule_follows_the_steps(prepared: Prepared, tmp_path: Path) -> None:
    options = {"teacher_forcing": 0.5, "forcing_schedule": ForcingSchedule.linear}
    session = start_run(settings(prepared, 2, **options), prepared, tmp_path / "run")
    ratios, task = [], session.task
    begin_step = task.begin_step

    def record(step: int, total_steps: int) -> None:
        begin_step(step, total_steps)
        ratios.append(task.forcing_ratio)

    task.begin_step = record
    session.fit()
    assert ratios == [1 - 0.5 * step / 5 for step in range(6)]
    begin_step(0, 1)
    assert task.forcing_ratio == 1


def test_label_smoothing_keeps_the_logged_loss(prepared: Prepared, tmp_path: Path) -> None:
    losses = {}
    for smoothing in (0.0, 0.3):
        folder = tmp_path / str(smoothing)
        session = start_run(settings(prepared, label_smoothing=smoothing), prepared, folder)
        batch = next(session.task.train_batches.epoch(0))
        losses[smoothing] = session.task.training_loss(session.model, batch, None)
    plain, smoothed = losses[0.0], losses[0.3]
    torch.testing.assert_close(smoothed.nll, plain.nll)
    assert smoothed.total != smoothed.nll and plain.total == plain.nll


def test_depths_of_encoder_and_decoder(prepared: Prepared) -> None:
    """Each has its own depths: the attention reads the last layer of both."""
    two_layers = LSTMConfig(name="lstm", embedding_dim=8, hidden_dim=8, num_layers=2)
    model = Seq2SeqTask.build_model(settings(prepared, model=two_layers), prepared.vocab, ())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    split_by_depth(optimizer, model)
    depths = {id(p): group["depth"] for group in optimizer.param_groups for p in group["params"]}
    by_name = {name: depths[id(p)] for name, p in model.named_parameters()}
    for name in ("encoder.layers", "encoder.backward_layers", "decoder.layers"):
        assert [by_name[f"{name}.{layer}.weight_hh"] for layer in (0, 1)] == [2, 1]
    assert (by_name["decoder.combine.weight"], by_name["embedding.weight"]) == (0, 3)


@pytest.mark.parametrize("mode", SubwordMode)
@pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])
def test_embeddings(prepared: Prepared, tmp_path: Path, mode: SubwordMode, share: bool) -> None:
    model = LSTMConfig("lstm", 16, 16, mode is SubwordMode.both, mode, num_layers=1)
    config = settings(prepared, share_embedding=share, model=model)
    finish(config, prepared, tmp_path / "run")
    run = TaskRun.load(tmp_path / "run")
    assert isinstance(run.predict("rome")[0]["prediction"], str)
    plain = run.model.inference_copy().eval()  # type: ignore[operator]
    inputs = pad([prepared.ids("train")[:6], prepared.ids("train")[:3]])
    targets = torch.tensor([[4, 5, 3], [6, 3, 0]])
    with torch.no_grad():
        expected = run.model(*inputs, targets).vectors
        torch.testing.assert_close(plain(*inputs, targets).vectors, expected)
