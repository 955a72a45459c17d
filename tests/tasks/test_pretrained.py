"""Encoders that start from language models, and how their layers are trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_cases import REVIEWS, TASKS, prepare_table, settings_of
from tiny_runs import comparable, finish, make_settings, resume
from tiny_runs import start as start_run

from korlm.api.runs import TaskRun
from korlm.config import (
    ClassificationConfig,
    CorpusConfig,
    GRUConfig,
    InitialState,
    LSTMConfig,
    Nonlinearity,
    RNNConfig,
    SentencePieceConfig,
    TaggingConfig,
    TagLabels,
    TokenizerConfig,
    TrainSettings,
    UnicodeForm,
    VocabConfig,
)
from korlm.dataset.numericalize import reverse_lines
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared
from korlm.dataset.vocab import EOS_ID
from korlm.modules.encoder import PairedEncoder
from korlm.runs.trained_run import TrainedRun
from korlm.tasks.pretrained import adopt_language_model_settings
from korlm.training.optimizers import split_by_depth
from korlm.training.session import TrainingSession
from korlm.utils.errors import CheckpointError, ConfigError

LM = LSTMConfig(name="lstm", embedding_dim=8, hidden_dim=12, num_layers=2, tie_weights=True)


SYLLABLES = TokenizerConfig(name="syllable")


def language_model(
    folder: Path,
    reverse: bool = False,
    model: Any = LM,
    tokenizer: TokenizerConfig = SYLLABLES,
    repeat: int = 1,
) -> Path:
    """Train a language model of the reviews for a few steps."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {split: [str(folder / f"{split}.txt")] for split in ("train", "valid", "test")}
    for (name,) in files.values():
        lines = [text for text, _ in REVIEWS + REVIEWS[:2] * (repeat - 1)]
        Path(name).write_text("\n".join(lines), encoding="utf-8")
    corpus = CorpusConfig(name="lm", reverse=reverse, **files)
    prepared = prepare(corpus, tokenizer, VocabConfig(1), folder)
    parts = {"corpus": corpus, "model": model, "tokenizer": tokenizer}
    settings = make_settings(prepared, {"epochs": 1}, **parts)
    finish(settings, prepared, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    runs = (language_model(folder / "f"), language_model(folder / "b", reverse=True))
    return str(runs[0]), str(runs[1])


def table_of(folder: Path) -> CorpusConfig:
    """Return the corpus of ``prepare_table``."""
    files = {split: [str(folder / f"{split}.tsv")] for split in ("train", "valid", "test")}
    return CorpusConfig(name="tiny", label_column="annotation", **files)


def classifier(folder: Path, init: list[str], **parts: Any) -> tuple[TrainSettings, Prepared]:
    """Return settings of a classifier and its corpus, as korlm.train makes them."""
    first = prepare_table(folder, REVIEWS, label_column="annotation")
    settings = settings_of(TASKS["classification"], first, 2, init=init, **parts)
    settings = dataclasses.replace(settings, corpus=table_of(folder))
    settings, encoding = adopt_language_model_settings(settings, [])
    return settings, prepare(
        settings.corpus, settings.tokenizer, settings.vocab, folder, encoding=encoding
    )


def test_both_directions_have_the_weights_of_the_language_models(
    models: tuple[str, str], tmp_path: Path
) -> None:
    settings, prepared = classifier(tmp_path / "data", list(models))
    session = start_run(settings, prepared, tmp_path / "run")
    encoder = session.model.encoder
    assert isinstance(encoder, PairedEncoder)
    forward = TrainedRun.load(Path(models[0]))
    assert prepared.vocab.tokens == forward.vocab.tokens
    ours = encoder.forward_encoder.state_dict()
    for name, theirs in forward.model.state_dict().items():
        if name.startswith(("embedding.", "encoder.layers.")):
            torch.testing.assert_close(ours[name.removeprefix("encoder.")], theirs)
    assert encoder.output_dim == 2 * LM.embedding_dim  # tied: the last layer
    splits = session.fit()
    run = TaskRun.load(tmp_path / "run")  # the language models are no longer needed
    assert run.settings.init == list(models)
    assert comparable(resume(prepared, tmp_path / "run").fit()) == comparable(splits)


def test_an_encoder_reads_the_states_of_language_models(
    models: tuple[str, str], tmp_path: Path
) -> None:
    case = TASKS["spans"]
    task = dataclasses.replace(case.config, encoder_dim=6)
    settings = settings_of(case, case.prepare(tmp_path / "data"), 2, init=list(models), task=task)
    settings, encoding = adopt_language_model_settings(settings, [])
    parts = (settings.tokenizer, settings.vocab, tmp_path)
    prepared = prepare(table_of(tmp_path / "data"), *parts, encoding=encoding)
    session = start_run(settings, prepared, tmp_path / "run")
    splits = session.fit()
    model = session.model
    assert model.encoder.output_dim == 2 * 6
    forward = TrainedRun.load(Path(models[0])).model.state_dict()
    ours = model.language_models.forward_encoder.state_dict()
    for name in ("embedding.weight", "layers.1.weight_hh"):  # as before training
        source = f"encoder.{name}" if name.startswith("layers") else name
        torch.testing.assert_close(ours[name], forward[source], rtol=0, atol=0)
    assert comparable(resume(prepared, tmp_path / "run").fit()) == comparable(splits)
    run = TaskRun.load(tmp_path / "run")  # the language models are not needed any more
    together = run.predict(case.texts)
    alone = [run.predict(text)[0] for text in case.texts]
    assert [[part["label"] for part in row["labels"]] for row in together] == [
        [part["label"] for part in row["labels"]] for row in alone
    ]
    with pytest.raises(ConfigError, match=r"task.encoder_dim=6: .* 'init=\[FORWARD,BACKWARD\]'"):
        dataclasses.replace(settings, init=settings.init[:1])


def test_one_language_model(models: tuple[str, str], tmp_path: Path) -> None:
    one_way = ClassificationConfig(name="classification", bidirectional=False)
    settings, prepared = classifier(tmp_path / "data", [models[0]], task=one_way)
    finish(settings, prepared, tmp_path / "one")
    settings, prepared = classifier(tmp_path / "data", [models[0]])
    session = start_run(settings, prepared, tmp_path / "both")
    encoder = session.model.encoder
    assert torch.equal(
        encoder.backward_encoder.embedding.weight, encoder.forward_encoder.embedding.weight
    )
    assert not torch.equal(
        encoder.backward_encoder.layers[0].weight_hh, encoder.forward_encoder.layers[0].weight_hh
    )


def test_the_tokenizer_of_the_language_model_is_not_trained_again(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    pieces = SentencePieceConfig(name="sentencepiece", vocab_size=40)
    run = TrainedRun.load(language_model(tmp_path / "lm", tokenizer=pieces, repeat=100))
    settings, prepared = classifier(tmp_path / "data", [str(run.folder)], tokenizer=pieces)
    assert prepared.tokenizer_model == run.tokenizer_model
    assert prepared.vocab.tokens == run.vocab.tokens
    own = prepare(settings.corpus, pieces, VocabConfig(1), tmp_path / "own")
    assert own.tokenizer_model != run.tokenizer_model
    start_run(settings, prepared, tmp_path / "run")
    other = language_model(tmp_path / "other", reverse=True, tokenizer=pieces)
    with pytest.raises(ConfigError, match="its sentencepiece model differs"):
        classifier(tmp_path / "data", [str(run.folder), str(other)], tokenizer=pieces)


@pytest.mark.parametrize(
    "model, changes",
    [
        (
            dataclasses.replace(LM, initial_state=InitialState.noise, initial_state_std=0.1),
            {"initial_state": InitialState.zero, "initial_state_std": None},
        ),
        (
            RNNConfig("rnn", 8, 12, nonlinearity=Nonlinearity.relu),
            {"nonlinearity": Nonlinearity.tanh},
        ),
    ],
    ids=["noise", "nonlinearity"],
)
def test_the_architecture_is_that_of_the_language_model(
    model: Any, changes: dict[str, Any], tmp_path: Path
) -> None:
    run = language_model(tmp_path / "lm", model=model)
    other = dataclasses.replace(model, **changes)
    settings, _ = classifier(tmp_path / "data", [str(run)], model=other)
    assert settings.model == model


def test_mismatches_are_refused(models: tuple[str, str], tmp_path: Path) -> None:
    gru = GRUConfig(name="gru", embedding_dim=8, hidden_dim=8, num_layers=1)
    wrong: list[tuple[list[str], dict[str, Any], str]] = [
        ([models[1]], {}, "forward"),
        ([models[0], models[0]], {}, "backward"),
        ([models[0]], {"model": gru}, "model=lstm"),
        ([models[0]], {"tokenizer": TokenizerConfig(name="jamo")}, "tokenizer=syllable"),
    ]
    for init, parts, expected in wrong:
        with pytest.raises(ConfigError, match=expected):
            classifier(tmp_path, init, **parts)
    first = prepare_table(tmp_path, REVIEWS, label_column="annotation")
    settings = settings_of(TASKS["classification"], first, 1, init=[models[0]])
    with pytest.raises(ConfigError, match=r"model\.hidden_dim.* 12; leave it out"):
        adopt_language_model_settings(settings, ["model.hidden_dim=64"])
    corpus = dataclasses.replace(settings.corpus, unicode=UnicodeForm.nfkc)
    with pytest.raises(ConfigError, match=r"has corpus\.unicode=nfkc; give corpus\.unicode=nfc"):
        adopt_language_model_settings(dataclasses.replace(settings, corpus=corpus), [])
    adopt_language_model_settings(
        dataclasses.replace(settings, corpus=corpus, prepared=str(first.folder)), []
    )
    vocab = VocabConfig(1, max_size=100)
    settings = dataclasses.replace(settings, vocab=vocab)
    with pytest.raises(ConfigError, match=r"vocab\.max_size.* has null; leave it out"):
        adopt_language_model_settings(settings, ["vocab.min_freq=1", "vocab.max_size=100"])
    with pytest.raises(ConfigError, match="cannot start from a language model"):
        make_settings(first, init=[models[0]])


def test_a_reversed_model_only_initializes(models: tuple[str, str]) -> None:
    with pytest.raises(CheckpointError, match="reversed text"):
        TrainedRun.load(Path(models[1]))


def test_reversed_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("가나다\n\n라마", encoding="utf-8")
    names = {split: [str(tmp_path / f"{split}.txt")] for split in ("train", "valid")}
    for (name,) in names.values():
        Path(name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    for reverse, expected in ((False, "가나다|라마|"), (True, "다나가|마라|")):
        corpus = CorpusConfig(name="tiny", reverse=reverse, **names)
        prepared = prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), tmp_path)
        text = "".join(
            "|" if i == EOS_ID else prepared.vocab.tokens[i] for i in prepared.ids("train")
        )
        assert text == expected
    assert reverse_lines(np.array([1, 2, 3]), np.array([0, 3])).tolist() == [3, 2, 1]


def depths_of(session: TrainingSession) -> dict[int, int]:
    """Return the depth of each parameter of the optimizer, by its ``id``."""
    groups = session.checkpoints.optimizer.param_groups
    return {id(p): group["depth"] for group in groups for p in group["params"]}


def test_depths_of_layers(models: tuple[str, str], tmp_path: Path) -> None:
    settings, prepared = classifier(tmp_path / "data", list(models))
    session = start_run(settings, prepared, tmp_path / "run")
    parameters = {
        id(p) for group in session.checkpoints.optimizer.param_groups for p in group["params"]
    }
    split_by_depth(session.checkpoints.optimizer, session.model)
    depths = depths_of(session)
    assert depths.keys() == parameters
    by_name = {name: depths[id(p)] for name, p in session.model.named_parameters()}
    assert by_name["output.weight"] == 0
    assert by_name["encoder.forward_encoder.layers.1.weight_hh"] == 1
    assert by_name["encoder.backward_encoder.layers.0.bias_ih"] == 2
    assert by_name["encoder.forward_encoder.embedding.weight"] == 3


def test_lower_layers_wait_and_learn_slowly(models: tuple[str, str], tmp_path: Path) -> None:
    settings, prepared = classifier(tmp_path / "data", list(models))
    trainer = dataclasses.replace(settings.trainer, epochs=1, gradual_unfreezing=True)
    settings = dataclasses.replace(settings, trainer=trainer)
    session = start_run(settings, prepared, tmp_path / "frozen")
    before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    session.fit()
    last = torch.load(tmp_path / "frozen" / "checkpoints" / "last.pt", weights_only=True)["model"]
    for name, value in before.items():
        assert torch.equal(value, last[name]) == (not name.startswith(("output", "pooling"))), name
    trainer = dataclasses.replace(trainer, epochs=4)
    optimizer = dataclasses.replace(settings.optimizer, layer_lr_decay=0.5)
    settings = dataclasses.replace(settings, trainer=trainer, optimizer=optimizer)
    session = start_run(settings, prepared, tmp_path / "slow")
    session.fit()
    rates = {group["depth"]: group["lr"] for group in session.checkpoints.optimizer.param_groups}
    assert {depth: rate / rates[0] for depth, rate in rates.items()} == {
        0: 1.0,
        1: 0.5,
        2: 0.25,
        3: 0.125,
    }


def test_frozen_layers_have_no_gradients(models: tuple[str, str], tmp_path: Path) -> None:
    """They would count in the norm that gradients are clipped to."""
    settings, prepared = classifier(tmp_path / "data", list(models))
    trainer = dataclasses.replace(settings.trainer, gradual_unfreezing=True)
    settings = dataclasses.replace(settings, trainer=trainer)
    task = TaggingConfig(name="tagging", labels=TagLabels.spaces, encoder_dim=4)
    tagging = dataclasses.replace(settings, task=task, objective="valid.f1")
    for name, of_run in (("classifier", settings), ("tagger", tagging)):
        session = start_run(of_run, prepared, tmp_path / name)
        assert session.trainer is not None
        depths = depths_of(session)
        batch = next(iter(session.task.train_batches.epoch(0)))
        for epoch in (0, 1, 4):
            session.progress.epoch = epoch
            session.trainer.train_step(batch)
            for key, parameter in session.model.named_parameters():
                is_trained = "language_models" not in key and depths[id(parameter)] <= epoch
                assert (parameter.grad is not None) == is_trained, (epoch, key)


def test_other_features_start_from_random_weights(models: tuple[str, str], tmp_path: Path) -> None:
    settings, prepared = classifier(tmp_path, list(models))
    task = TaggingConfig(name="tagging", labels=TagLabels.spaces, ngram_dim=4, ngram_orders=[2])
    settings = dataclasses.replace(settings, task=task, objective="valid.f1")
    model = start_run(settings, prepared, tmp_path / "run").model
    assert isinstance(model.encoder, PairedEncoder)
    encoder = model.encoder.forward_encoder
    expected = TrainedRun.load(Path(models[0])).model.encoder.layers.state_dict()
    for name, weight in encoder.layers.state_dict().items():
        assert weight[..., : expected[name].shape[-1]].equal(expected[name]), name
    assert encoder.layers[0].weight_ih.shape[1] == LM.embedding_dim + 8
