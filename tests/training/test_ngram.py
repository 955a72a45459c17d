"""Runs of n-gram models: the same files, metrics and interruptions as those of neural models."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import break_off, comparable, finish, make_settings, resume, start

from korlm.config import Mode, NgramConfig, Smoothing, TrainSettings
from korlm.dataset.prepared import Prepared
from korlm.models.ngram.model import NgramLM
from korlm.models.registry import build_model
from korlm.runs.checkpoint import load_checkpoint
from korlm.utils.errors import ConfigError


def settings(prepared: Prepared, mode: Mode = Mode.stream, **model: object) -> TrainSettings:
    """Return settings of a trigram model, unless another order is given."""
    config = NgramConfig(**{"name": "ngram", "order": 3, **model})
    return make_settings(prepared, trainer={"sample_tokens": 5}, mode=mode, model=config)


@pytest.mark.parametrize("mode", Mode)
def test_the_files_of_a_run(prepared: Prepared, tmp_path: Path, mode: Mode) -> None:
    finished = finish(settings(prepared, mode), prepared, tmp_path)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"checkpoints", "metrics.json", "training.json", "tensorboard"}
    training = json.loads((tmp_path / "training.json").read_text())
    assert training["num_parameters"] == finished.run.model.num_grams
    assert training["num_tokens"] == finished.splits["train"]["num_tokens"]
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"best.pt", "last.pt"}
    assert json.loads((tmp_path / "metrics.json").read_text()) == finished.splits
    assert 1 < finished.splits["train"]["perplexity"] < finished.splits["valid"]["perplexity"] < 10
    best, last = (load_checkpoint(tmp_path / "checkpoints" / f"{n}.pt") for n in ("best", "last"))
    assert best["optimizer"] is None
    assert best["progress"]["step"] == last["progress"]["step"] == 1
    assert last["progress"]["best_cost"] == finished.splits["valid"]["loss"]
    for checkpoint in (best, last):
        model = build_model(NgramConfig(name="ngram", order=3), len(prepared.vocab))
        model.load_state_dict(checkpoint["model"])
        assert isinstance(model, NgramLM)
        assert model.num_grams == finished.run.model.num_grams
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = events.Tags()
    assert {"loss/valid", "perplexity/valid", "perplexity/test"} <= set(tags["scalars"])
    assert events.Scalars("perplexity/valid")[0].value == pytest.approx(
        finished.splits["valid"]["perplexity"]
    )


def test_stream_and_sentences_agree(prepared: Prepared, tmp_path: Path) -> None:
    """Except for columns and long sentences, whose first token has less context."""
    parts = [
        finish(settings(prepared, mode, order=2), prepared, tmp_path / mode.value).splits
        for mode in Mode
    ]
    assert parts[0]["valid"]["loss"] == pytest.approx(parts[1]["valid"]["loss"], rel=0.05)


def test_less_text_than_a_batch(prepared: Prepared, tmp_path: Path) -> None:
    changed = settings(prepared)
    batches = dataclasses.replace(changed.batches, batch_size=10_000)
    assert finish(dataclasses.replace(changed, batches=batches), prepared, tmp_path).splits


def test_maximum_likelihood_has_an_infinite_perplexity(
    prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ml = settings(prepared, smoothing=Smoothing.maximum_likelihood)
    with caplog.at_level(logging.INFO):
        splits = finish(ml, prepared, tmp_path).splits
    assert math.isinf(splits["valid"]["perplexity"])
    assert splits["train"]["perplexity"] < 10
    assert json.loads((tmp_path / "metrics.json").read_text())["valid"]["perplexity"] is None
    assert "model.smoothing=maximum_likelihood assigns zero probability" in caplog.text
    assert "inf" in caplog.text


def test_arpa_round_trip(prepared: Prepared, tmp_path: Path) -> None:
    written = finish(settings(prepared, write_arpa=True), prepared, tmp_path / "a")
    path = tmp_path / "a" / "ngram.arpa.gz"
    read = finish(settings(prepared, arpa=str(path)), prepared, tmp_path / "b")
    for split, figures in comparable(written.splits).items():
        assert comparable(read.splits)[split] == pytest.approx(figures, rel=1e-5)


def test_an_arpa_file_of_another_order(prepared: Prepared, tmp_path: Path) -> None:
    finish(settings(prepared, write_arpa=True), prepared, tmp_path / "a")
    other = settings(prepared, order=2, arpa=str(tmp_path / "a" / "ngram.arpa.gz"))
    with pytest.raises(ConfigError, match=r"set model\.order=3"):
        start(other, prepared, tmp_path / "b").fit()
    assert not (tmp_path / "b").exists()


def test_an_order_above_the_length_of_all_sentences(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"model\.order=99: the longest n-grams of train have order"
    ):
        start(settings(prepared, order=99), prepared, tmp_path).fit()


@pytest.mark.parametrize("moment", ["counting", "validation", "writing"])
def test_stopped_and_resumed(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    unbroken = finish(settings(prepared, write_arpa=True), prepared, tmp_path / "a")
    run = start(settings(prepared, write_arpa=True), prepared, tmp_path / "b")

    validate = run.validator.validate

    def request_stop(*arguments: object) -> None:
        run.stop.stop_requested = True

    with monkeypatch.context() as patch:
        if moment == "counting":
            request_stop()
        elif moment == "validation":
            patch.setattr(run.task.eval_batches["valid"], "epoch", lambda *_: request_stop() or [0])
        else:
            patch.setattr(
                run.validator, "validate", lambda **named: (validate(**named), request_stop())[0]
            )
        message = break_off(run)
    assert message.startswith(f"stopped at step {0 if moment == 'counting' else 1} of 1")
    assert not list(tmp_path.glob("b/ngram.arpa.gz*"))
    splits = resume(prepared, tmp_path / "b").fit()
    assert comparable(splits) == comparable(unbroken.splits)
    assert (tmp_path / "b" / "ngram.arpa.gz").is_file()


def test_a_finished_run_can_be_resumed(prepared: Prepared, tmp_path: Path) -> None:
    finished = finish(settings(prepared), prepared, tmp_path)
    assert comparable(resume(prepared, tmp_path).fit()) == comparable(finished.splits)


def test_the_log(prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        finished = finish(settings(prepared), prepared, tmp_path)
    assert "an n-gram model of order 3: counting (kneser_ney)" in caplog.text
    assert f"{finished.run.model.num_grams:,} n-grams" in caplog.text
    assert "parameters" not in caplog.text
