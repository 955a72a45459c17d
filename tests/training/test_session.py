"""Whole runs on a tiny corpus: they learn, and write the documented files and metrics."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from pathlib import Path

import pytest
import torch
from tiny_runs import (
    BUSY_MODEL,
    OPTIMIZERS,
    Finished,
    Splits,
    comparable,
    finish,
    make_settings,
    start,
)

from korlm.config import (
    DecayConfig,
    GRUConfig,
    InitialState,
    LSTMConfig,
    Mode,
    ModelConfig,
    Nonlinearity,
    OutputBias,
    PlateauConfig,
    Precision,
    RNNConfig,
    ScheduleConfig,
    SubwordMode,
    TrainSettings,
    TransformerConfig,
    WindowConfig,
)
from korlm.config.serialization import settings_from_plain
from korlm.dataset.batches import Batches, build_batches
from korlm.dataset.prepared import Prepared
from korlm.dataset.vocab import EOS_ID, Vocab
from korlm.evaluation.metrics import LossSums
from korlm.models.registry import build_model
from korlm.runs.checkpoint import load_checkpoint, settings_of
from korlm.tasks.language_modeling import sum_losses
from korlm.tokenizers.text_units import SyllableTokenizer
from korlm.training.trackers.base import RunStatus
from korlm.utils.errors import ConfigError, Interrupted, KorlmError, TrainingError, enough_memory

METRICS = {
    *("num_tokens", "num_unk", "num_eojeol", "num_chars"),
    *("loss", "perplexity", "perplexity_known", "oov_rate", "eojeol_perplexity", "bits_per_char"),
    *("tokens_per_second", "seconds", "peak_memory_mb"),
}


# --- a run from start to end ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prepared: Prepared) -> Finished:
    """Return a run that is long enough to memorize its text."""
    settings = make_settings(
        prepared,
        trainer={"epochs": 25, "sample_tokens": 8, "log_every": 10},
        model=LSTMConfig(name="lstm", embedding_dim=24, hidden_dim=32, num_layers=1),
        name="finished",
    )
    return finish(settings, prepared, tmp_path_factory.mktemp("finished"))


def test_memorizes_its_text(finished: Finished) -> None:
    vocab_size = len(finished.run.prepared.vocab)
    assert vocab_size > 20
    assert finished.splits["train"]["perplexity"] < 1.8
    assert finished.splits["valid"]["perplexity"] < finished.run.total_steps
    assert finished.run.progress.step == finished.run.total_steps


def test_metrics_json(finished: Finished) -> None:
    stored = json.loads((finished.run.folder / "metrics.json").read_text(encoding="utf-8"))
    assert list(stored) == ["train", "valid", "test"]
    assert stored == finished.splits
    for split, metrics in stored.items():
        assert set(metrics) == METRICS
        stats = finished.run.prepared.stats[split]
        for count in ("num_tokens", "num_unk", "num_eojeol", "num_chars"):
            assert metrics[count] == getattr(stats, count)
        assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
        assert metrics["oov_rate"] == metrics["num_unk"] / metrics["num_tokens"]
        assert metrics["seconds"] > 0
    assert stored["train"]["num_unk"] == 0 < stored["valid"]["num_unk"]


def test_the_files_of_a_run(finished: Finished) -> None:
    files = {
        str(path.relative_to(finished.run.folder))
        for path in finished.run.folder.rglob("*")
        if path.is_file()
    }
    events = {name for name in files if name.startswith("tensorboard")}
    projector = {
        "tensorboard/projector_config.pbtxt",
        "tensorboard/embeddings/metadata.tsv",
        "tensorboard/embeddings/tensors.tsv",
    }
    assert len(events - projector) == 1 and projector < events
    assert files - events == {
        "metrics.json",
        "training.json",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
    }


def test_metrics_are_of_the_best_model(prepared: Prepared, tmp_path: Path) -> None:
    """The weights are scaled up in the second half of the run."""
    run = start(make_settings(prepared, trainer={"epochs": 2}), prepared, tmp_path)

    def hook(*arguments: object) -> None:
        if run.progress.step >= run.total_steps // 2:
            with torch.no_grad():
                for parameter in run.model.parameters():
                    parameter.mul_(1.5)

    run.checkpoints.optimizer.register_step_post_hook(hook)
    splits, progress = run.fit(), run.progress
    assert progress.best_step == progress.step // 2
    best, last = (
        load_checkpoint(run.checkpoints.folder / f"{name}.pt") for name in ("best", "last")
    )
    assert best["progress"]["best_step"] == best["progress"]["step"] == progress.best_step
    assert best["progress"]["best_cost"] == last["progress"]["best_cost"] == progress.best_cost
    assert splits["valid"]["loss"] == progress.best_cost
    for name, parameter in run.model.state_dict().items():
        assert torch.equal(parameter, best["model"][name])
    run.model.load_state_dict(last["model"])
    assert (
        sum_losses(run.model, run.task.eval_batches["valid"], run.device).loss
        > progress.best_cost + 0.1
    )


def test_the_output_bias_starts_at_the_unigrams(prepared: Prepared, tmp_path: Path) -> None:
    """Before the first step the valid loss is nearly that of a unigram model."""
    model = LSTMConfig(name="lstm", embedding_dim=8, hidden_dim=8, output_bias=OutputBias.unigram)
    run = start(make_settings(prepared, model=model), prepared, tmp_path)
    counts = torch.tensor(prepared.vocab.counts) + 0.5
    ids = torch.from_numpy(prepared.ids("valid").astype("int64"))
    expected = -(counts / counts.sum()).log()[ids].mean().item()
    loss = sum_losses(run.model, run.task.eval_batches["valid"], run.device).loss
    assert loss == pytest.approx(expected, rel=0.01)
    assert loss < math.log(len(prepared.vocab)) - 0.2


def test_best_is_self_contained(finished: Finished) -> None:
    """Settings, vocabulary and weights are in the file."""
    path = finished.run.folder / "checkpoints" / "best.pt"
    checkpoint = load_checkpoint(path)
    settings = settings_from_plain(settings_of(checkpoint, path))
    assert settings == finished.run.settings
    vocab = Vocab.restore(**checkpoint["vocab"], config=settings.vocab)
    model = build_model(settings.model, len(vocab))
    model.load_state_dict(checkpoint["model"])
    tokens: list[int] = []
    for line in Path(settings.corpus.valid[0]).read_text(encoding="utf-8").splitlines():
        tokens += [*vocab.encode(SyllableTokenizer().tokenize(line)).tolist(), EOS_ID]
    batches = build_batches(
        torch.tensor(tokens).numpy().astype("uint16"), settings.batches, False, 1, "valid"
    )
    tally = sum_losses(model, batches, torch.device("cpu"))
    assert tally.num_tokens == finished.splits["valid"]["num_tokens"]
    assert tally.loss == pytest.approx(finished.splits["valid"]["loss"], rel=1e-6)


def test_last_holds_more_than_best(finished: Finished) -> None:
    folder = finished.run.folder / "checkpoints"
    best, last = load_checkpoint(folder / "best.pt"), load_checkpoint(folder / "last.pt")
    assert best["optimizer"] is None
    assert last["optimizer"]["state"]
    assert last["config"] == best["config"]
    assert last["vocab"] == best["vocab"]
    assert last["progress"]["step"] == finished.run.total_steps
    assert last["rng"]["cpu"].dtype == torch.uint8


def test_the_spelling_model_is_saved(finished: Finished) -> None:
    checkpoint = load_checkpoint(finished.run.folder / "checkpoints" / "best.pt")
    arrays = finished.run.prepared.spelling.arrays()
    assert checkpoint["spelling"].keys() == arrays.keys()
    for name, array in arrays.items():
        assert checkpoint["spelling"][name].tolist() == array.tolist()


def test_the_settings_of_the_prepared_corpus_are_saved(
    finished: Finished, prepared: Prepared, tmp_path: Path
) -> None:
    """With prepared=DIR the corpus in the settings is not the one that is read."""
    settings = make_settings(prepared, prepared=str(prepared.folder))
    other = dataclasses.replace(settings.corpus, name="other", train=["nowhere.txt"])
    run = start(dataclasses.replace(settings, corpus=other), prepared, tmp_path)
    run.tracker.close()
    checkpoint = run.checkpoints.constants
    assert checkpoint["config"]["corpus"]["name"] == "tiny"
    best = load_checkpoint(finished.run.folder / "checkpoints" / "best.pt")
    assert checkpoint["config"]["corpus"] == best["config"]["corpus"]


def test_tensorboard_holds_the_run(finished: Finished) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    guidance = {"scalars": 0, "tensors": 0}
    events = EventAccumulator(str(finished.run.folder / "tensorboard"), size_guidance=guidance)
    tags = events.Reload().Tags()
    assert {"loss/train", "loss/valid", "loss/test", "best/valid_perplexity"} <= set(
        tags["scalars"]
    )
    steps_per_epoch = finished.steps_per_epoch
    assert [point.step for point in events.Scalars("loss/valid")] == [
        steps_per_epoch * n for n in range(1, 26)
    ]
    best = [point.value for point in events.Scalars("best/valid_perplexity")]
    assert best == sorted(best, reverse=True)
    assert best[-1] == pytest.approx(finished.splits["valid"]["perplexity"], rel=1e-5)
    sampled = {
        tag: events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()
        for tag in ("samples", "samples/tokens")
    }
    tokens = sampled["samples/tokens"].split(" ")
    assert len(tokens) == 8
    assert set(tokens) - {"\n\n"} <= set(finished.run.prepared.vocab.tokens)
    assert sampled["samples"].split() == "".join(tokens).replace("▁", " ").split()


def test_the_log(prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="korlm"):
        start(make_settings(prepared), prepared, tmp_path).fit()
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "epoch 1/2  step 9  train perplexity" in text
    assert "valid perplexity" in text
    assert "bits_per_char" in text


def test_sentence_batches(prepared: Prepared, tmp_path: Path) -> None:
    model = LSTMConfig(name="lstm", embedding_dim=24, hidden_dim=32, num_layers=1)
    settings = make_settings(prepared, trainer={"epochs": 12}, mode=Mode.sentence, model=model)
    splits = start(settings, prepared, tmp_path).fit()
    assert splits["train"]["perplexity"] < 2.0
    # The number of tokens does not depend on the batches.
    assert splits["train"]["num_tokens"] == prepared.stats["train"].num_tokens


# --- kinds of models, optimizers and schedules ----------------------------------------------------

SCHEDULES: dict[str, ScheduleConfig] = {
    "constant": ScheduleConfig(name="constant", warmup_ratio=0.1),
    "cosine": DecayConfig(name="cosine", warmup_ratio=0.1),
    "one_cycle": DecayConfig(name="one_cycle", warmup_ratio=0.25, end_factor=1e-4),
    "plateau": PlateauConfig(name="plateau"),
}
MODELS: dict[str, ModelConfig] = {
    "lstm": LSTMConfig(name="lstm", embedding_dim=8, hidden_dim=8),
    "gru": GRUConfig(name="gru", embedding_dim=8, hidden_dim=8, hidden_dropout=0.1),
    "tanh": RNNConfig(name="rnn", embedding_dim=8, hidden_dim=8, weight_dropout=0.1),
    "relu": RNNConfig(
        name="rnn", embedding_dim=8, hidden_dim=8, nonlinearity=Nonlinearity.relu, layer_norm=True
    ),
    "learned": LSTMConfig(
        name="lstm",
        embedding_dim=8,
        hidden_dim=12,
        tie_weights=False,
        layer_norm=True,
        recurrent_dropout=0.1,
        initial_state=InitialState.learned,
    ),
    "spelling": LSTMConfig(
        name="lstm", embedding_dim=8, hidden_dim=8, num_layers=1, subword_embedding=SubwordMode.both
    ),
    "window": WindowConfig(name="window", embedding_dim=8, hidden_dim=8, hidden_dropout=0.1),
    "transformer": TransformerConfig(
        name="transformer", embedding_dim=16, hidden_dim=16, hidden_dropout=0.1, window=8
    ),
    "paper": WindowConfig(
        name="window", embedding_dim=8, hidden_dim=8, tie_weights=False, direct_connections=True
    ),
}


def assert_learns(settings: TrainSettings, prepared: Prepared, folder: Path) -> Splits:
    run = start(settings, prepared, folder)
    before = sum_losses(run.model, run.task.eval_batches["train"], run.device).loss
    splits = run.fit()
    assert splits["train"]["loss"] < before - 0.3
    return splits


@pytest.mark.parametrize(("optimizer", "schedule"), [*zip(OPTIMIZERS, SCHEDULES, strict=True)])
def test_every_optimizer_and_every_schedule(
    prepared: Prepared, tmp_path: Path, optimizer: str, schedule: str
) -> None:
    settings = make_settings(
        prepared, optimizer=OPTIMIZERS[optimizer], schedule=SCHEDULES[schedule]
    )
    assert_learns(settings, prepared, tmp_path)


@pytest.mark.parametrize(
    ("model", "mode", "precision"),
    [
        *((model, Mode.stream, Precision.fp32) for model in MODELS),
        # The cells in bf16: tests/modules/test_modules_rnn.py.
        *((m, Mode.sentence, Precision.bf16) for m in ("lstm", "learned", "window", "transformer")),
    ],
)
def test_models_in_both_modes_and_precisions(
    prepared: Prepared, tmp_path: Path, model: str, mode: Mode, precision: Precision
) -> None:
    settings = make_settings(
        prepared, trainer={"precision": precision, "epochs": 3}, mode=mode, model=MODELS[model]
    )
    assert_learns(settings, prepared, tmp_path)


# --- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.value)
def test_the_seed_determines_the_result(
    prepared: Prepared,
    tmp_path: Path,
    mode: Mode,
) -> None:
    def run(name: str, seed: int) -> Splits:
        settings = make_settings(prepared, model=BUSY_MODEL, seed=seed, mode=mode)
        torch.rand(len(name))  # earlier random draws have no effect
        return comparable(start(settings, prepared, tmp_path / name).fit())

    first = run("first", 1)
    assert run("second", 1) == first
    assert run("another", 2)["valid"]["loss"] != first["valid"]["loss"]


def test_the_seed_shuffles_the_sentences(prepared: Prepared, tmp_path: Path) -> None:
    def inputs(split: str, seed: int) -> list[list[list[int]]]:
        settings = make_settings(prepared, mode=Mode.sentence, seed=seed)
        run = start(settings, prepared, tmp_path / str(seed))
        run.tracker.close()
        batches = run.task.train_batches if split == "train" else run.task.eval_batches[split]
        return [batch.inputs.tolist() for batch in batches.epoch(0)]

    assert inputs("train", 1) != inputs("train", 2)
    assert inputs("valid", 1) == inputs("valid", 2)


def test_sampling_and_logging_do_not_change_the_result(prepared: Prepared, tmp_path: Path) -> None:
    results = []
    for number, trainer in enumerate(({}, {"sample_tokens": 5, "log_every": 7})):
        settings = make_settings(prepared, trainer=trainer, model=BUSY_MODEL)
        results.append(comparable(start(settings, prepared, tmp_path / str(number)).fit()))
    assert results[0] == results[1]


# --- errors ---------------------------------------------------------------------------------------


def test_too_little_text_for_the_batches(prepared: Prepared, tmp_path: Path) -> None:
    settings = make_settings(prepared)
    settings.batches.batch_size = 5000
    with pytest.raises(KorlmError, match=r"batches\.batch_size=5000"):
        start(settings, prepared, tmp_path)


def test_figures_of_an_empty_pass() -> None:
    assert math.isnan(LossSums().loss)


def diverged(monkeypatch: pytest.MonkeyPatch, loss: float) -> None:
    """Make every evaluation return this loss."""

    def fixed_loss(model: object, batches: Batches, *others: object) -> LossSums:
        return LossSums(loss * batches.num_targets, 0.0, batches.num_targets, 0, 1.0)

    monkeypatch.setattr("korlm.tasks.language_modeling.sum_losses", fixed_loss)


def test_a_diverged_run_fails(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loss is finite, its perplexity infinite."""
    diverged(monkeypatch, 1000.0)
    run = start(make_settings(prepared), prepared, tmp_path)
    with pytest.raises(
        TrainingError, match=r"^the training has diverged: .* no best model"
    ) as caught:
        run.fit()
    assert len(str(caught.value).splitlines()) == 1 and "lower optimizer.lr" in str(caught.value)
    assert "checkpoints" not in str(caught.value)  # last.pt has the diverged model
    assert not (tmp_path / "metrics.json").exists()
    assert [path.name for path in run.checkpoints.folder.iterdir()] == ["last.pt"]


def test_a_warning_if_worse_than_guessing(
    prepared: Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for loss, is_worse in ((600.0, True), (math.log(len(prepared.vocab)) - 0.1, False)):
        diverged(monkeypatch, loss)
        caplog.clear()
        start(make_settings(prepared), prepared, tmp_path / str(loss)).fit()
        assert ("worse than guessing" in caplog.text) == is_worse


def test_a_model_larger_than_memory() -> None:
    message = r"^model=lstm: needs more memory than available \(.* GB at once\); lower it$"
    config = LSTMConfig(name="lstm", embedding_dim=8)
    config.hidden_dim = (
        2_000_000  # above the bound of the setting, more memory than any machine has
    )
    with pytest.raises(ConfigError, match=message), enough_memory("model=lstm", "lower it"):
        build_model(config, 5)
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("model=lstm", "lower it"):
        raise RuntimeError("shapes differ")


def test_trackers_call_a_run_finished_once_its_metrics_are_written(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, statuses = start(make_settings(prepared), prepared, tmp_path / "run"), []
    monkeypatch.setattr(run.tracker, "close", lambda status=None: statuses.append(status))
    (tmp_path / "run" / "metrics.json").mkdir()  # it can't be replaced by a file
    with pytest.raises(KorlmError, match=r"metrics\.json"):
        run.fit()
    assert statuses == [RunStatus.failed]


def test_stopped_in_the_final_evaluation_keeps_the_last_state(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the model is the best one, and must not be written to last.pt."""
    run = start(make_settings(prepared), prepared, tmp_path / "run")
    evaluate, num_validations = run.validator.evaluate, 0

    def worse_each_time(split: str, show_progress: bool = False) -> dict[str, float]:
        nonlocal num_validations
        run.stop.stop_requested = show_progress  # in the final evaluation
        num_validations += 1
        metrics = evaluate(split, show_progress)
        return metrics if num_validations == 1 else {**metrics, "loss": 99.0}

    monkeypatch.setattr(run.validator, "evaluate", worse_each_time)
    with pytest.raises(Interrupted, match="resume with"):
        run.fit()
    last, best = (
        torch.load(run.checkpoints.folder / name, weights_only=True)["model"]
        for name in ("last.pt", "best.pt")
    )
    assert any(not torch.equal(last[name], best[name]) for name in last)
    assert all(torch.equal(run.model.state_dict()[name], best[name]) for name in best)
