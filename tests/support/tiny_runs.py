"""A tiny corpus, and training runs of a fraction of a second, complete or interrupted."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import korlm
from korlm.config import (
    AdagradConfig,
    AdamConfig,
    BatchesConfig,
    CorpusConfig,
    Device,
    GRUConfig,
    LanguageModelingConfig,
    LSTMConfig,
    Mode,
    NgramConfig,
    OptimizerConfig,
    Precision,
    ScheduleConfig,
    SGDConfig,
    TokenizerConfig,
    TrainerConfig,
    TrainSettings,
    TransformerConfig,
    VocabConfig,
)
from korlm.config.metrics import default_objective
from korlm.config.serialization import settings_from_plain
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared
from korlm.runs.checkpoint import load_checkpoint, settings_of
from korlm.training.session import Splits, TrainingSession, build_session
from korlm.utils.distributed import SINGLE_PROCESS, ProcessGroup
from korlm.utils.errors import Interrupted

Make = Callable[..., TrainSettings]

# Metrics that depend on the clock or the system.
MEASURED = {"tokens_per_second", "examples_per_second", "seconds", "peak_memory_mb"}

OPTIMIZERS: dict[str, OptimizerConfig] = {
    "adamw": AdamConfig(name="adamw", lr=0.02, weight_decay=0.01),
    "adam": AdamConfig(name="adam", lr=0.02),
    "sgd": SGDConfig(name="sgd", lr=1.0, momentum=0.5),
    "adagrad": AdagradConfig(name="adagrad", lr=0.1),
}

# All kinds of dropout.
BUSY_MODEL = LSTMConfig(
    name="lstm",
    embedding_dim=6,
    hidden_dim=8,
    embedding_dropout=0.1,
    input_dropout=0.2,
    hidden_dropout=0.2,
    output_dropout=0.2,
    recurrent_dropout=0.1,
    weight_dropout=0.1,
    variational_dropout=True,
)

# Small language models: name -> parts of their settings.
TINY_RUNS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "sentence_lstm": {"mode": Mode.sentence},
    "gru": {
        "mode": Mode.sentence,
        "model": GRUConfig(name="gru", embedding_dim=6, hidden_dim=6, num_layers=1),
    },
    "transformer": {
        "model": TransformerConfig(
            name="transformer", embedding_dim=8, num_heads=2, num_layers=1, window=8
        )
    },
    "ngram": {"model": NgramConfig(name="ngram", order=3)},
    "foreign": {"trainer": {"epochs": 1}},
}


def korean_lines(count: int, seed: int) -> list[str]:
    """Return random short sentences of few words."""
    rng = random.Random(seed)
    who, what = ["나는", "너는", "우리는"], ["집에 간다.", "밥을 먹는다.", "잔다.", "책을 본다."]
    return [f"{rng.choice(who)} {rng.choice(what)}" for _ in range(count)]


def corpus_in(folder: Path) -> CorpusConfig:
    """Return the settings of the corpus in a folder."""
    files = {split: [str(folder / f"{split}.txt")] for split in ("train", "valid", "test")}
    return CorpusConfig(name="tiny", **files)


def prepare_tiny(
    folder: Path, min_freq: int = 2, tokenizer: TokenizerConfig | None = None
) -> Prepared:
    """Prepare a few dozen sentences; valid and test have syllables that train does not have."""
    corpus = corpus_in(folder)
    for seed, ((path,), count) in enumerate(
        ((corpus.train, 40), (corpus.valid, 8), (corpus.test, 8))
    ):
        lines = korean_lines(count, seed) + (["봄이 온다."] if path not in corpus.train else [])
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = tokenizer or TokenizerConfig(name="syllable")
    return prepare(corpus, tokenizer, VocabConfig(min_freq), folder)


def make_settings(
    prepared: Prepared,
    /,
    trainer: dict[str, Any] | None = None,
    mode: Mode = Mode.stream,
    **parts: Any,
) -> TrainSettings:
    """Return settings of two epochs of a small LSTM on one CPU thread, with changes."""
    basics = {"device": Device.cpu, "precision": Precision.fp32, "threads": 1, "log_every": 1}
    trainer_settings = {"epochs": 2, "sample_tokens": 0, **basics, **(trainer or {})}
    settings: dict[str, Any] = {
        "corpus": corpus_in(prepared.folder.parents[1]),
        "tokenizer": TokenizerConfig(name="syllable"),
        "vocab": VocabConfig(),
        "task": LanguageModelingConfig(name="language_modeling"),
        "batches": BatchesConfig(mode=mode, batch_size=4, eval_batch_size=2, bptt_length=12),
        "model": LSTMConfig(name="lstm", embedding_dim=8, hidden_dim=8, num_layers=1),
        "optimizer": AdamConfig(name="adamw", lr=0.02),
        "schedule": ScheduleConfig(name="constant"),
        "trainer": TrainerConfig(**trainer_settings),
    }
    settings |= parts
    settings.setdefault("objective", default_objective(settings["task"].name))
    return TrainSettings(**settings)


@dataclasses.dataclass
class Finished:
    """A finished run."""

    run: TrainingSession
    splits: Splits

    @property
    def steps_per_epoch(self) -> int:
        return len(self.run.task.train_batches)


def start(
    settings: TrainSettings, prepared: Prepared, folder: Path, group: ProcessGroup = SINGLE_PROCESS
) -> TrainingSession:
    """Return a new run."""
    return build_session(settings, prepared, folder, group=group)


def finish(settings: TrainSettings, prepared: Prepared, folder: Path) -> Finished:
    """Train a new run to its end."""
    run = start(settings, prepared, folder)
    return Finished(run, run.fit())


def train_tiny_run(folder: Path, name: str) -> Any:
    """Train a run of ``TINY_RUNS`` and load it; all but ``foreign`` have the same vocabulary."""
    torch.set_num_threads(1)
    is_foreign = name == "foreign"
    text = folder / ("other" if is_foreign else "same")
    text.mkdir(exist_ok=True)
    prepared = prepare_tiny(text, min_freq=15 if is_foreign else 2)
    finish(make_settings(prepared, **TINY_RUNS[name]), prepared, folder / name)
    return korlm.load(folder / name)


def resume(
    prepared: Prepared, folder: Path, group: ProcessGroup = SINGLE_PROCESS, **parts: Any
) -> TrainingSession:
    """Return a run that resumes from last.pt, like the command ``resume=folder``."""
    path = folder / "checkpoints" / "last.pt"
    checkpoint = load_checkpoint(path)
    settings = settings_from_plain(settings_of(checkpoint, path))
    settings = dataclasses.replace(settings, **parts)
    return build_session(settings, prepared, folder, checkpoint, group)


def stop_after(run: TrainingSession, step: int) -> None:
    """Request a stop during the given step, as a signal would."""

    def hook(*arguments: object) -> None:
        if run.progress.step + 1 == step:
            run.stop.stop_requested = True

    run.checkpoints.optimizer.register_step_post_hook(hook)


def break_off(run: TrainingSession) -> str:
    """Run until stopped; return the message."""
    with pytest.raises(Interrupted) as caught:
        run.fit()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.endswith(f"python -m korlm.train resume={run.folder}")
    assert not (run.folder / "metrics.json").exists()
    return message


def train_until(
    settings: TrainSettings, prepared: Prepared, folder: Path, step: int
) -> TrainingSession:
    """Train a new run, and stop it after a step."""
    run = start(settings, prepared, folder)
    stop_after(run, step)
    break_off(run)
    return run


def comparable(splits: Splits) -> Splits:
    """Return the metrics without those in ``MEASURED``."""
    return {
        split: {key: value for key, value in figures.items() if key not in MEASURED}
        for split, figures in splits.items()
    }


def assert_equal(actual: Any, expected: Any, path: str = "") -> None:
    """Check nested dicts, lists and tensors for equality, bit for bit."""
    assert type(actual) is type(expected), path
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys(), path
        for key, value in expected.items():
            assert_equal(actual[key], value, f"{path}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected), path
        for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_equal(one, other, f"{path}[{number}]")
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0, msg=path)
    else:
        assert actual == expected, path
