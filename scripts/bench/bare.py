"""A training loop without a run directory: what the benchmarks of training steps share."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_utils import argument_parser
from hydra import compose, initialize_config_dir

from korlm.cli.arguments import quote_hangul
from korlm.cli.output_dirs import register_resolvers
from korlm.config import ScheduleConfig, TrainerConfig, TrainSettings, store_schemas
from korlm.config.keys import conf_dir
from korlm.config.serialization import to_settings
from korlm.dataset.batches import Batch, Batches, StreamBatches, build_batches
from korlm.dataset.prepared import open_prepared
from korlm.dataset.vocab import Vocab
from korlm.models.base import LanguageModel, TrainingLoss
from korlm.models.registry import build_model
from korlm.modules.base import State
from korlm.runs.device import uses_bf16
from korlm.tasks.base import Task
from korlm.training.checkpointing import CheckpointWriter, Progress
from korlm.training.optimizers import build_optimizer
from korlm.training.stop import StopSignal
from korlm.training.trackers.base import Tracker
from korlm.training.trainer import Trainer
from korlm.training.validation import Validator
from korlm.utils.distributed import SINGLE_PROCESS, ProcessGroup
from korlm.utils.machine import keep_freed_memory


class TrainingOnly(Task[LanguageModel]):
    """A language model on given batches, without evaluation."""

    def __init__(self, batches: Batches) -> None:
        self.train_batches, self.eval_batches = batches, {}

    @classmethod
    def build_model(
        cls, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]
    ) -> LanguageModel:
        """Raise an error: benchmarks build their own models."""
        raise NotImplementedError

    def training_loss(
        self, model: LanguageModel, batch: Batch, state: State | None
    ) -> TrainingLoss:
        """See ``Task.training_loss``."""
        return model.training_loss(batch.inputs, batch.targets, state, batch.lengths)

    def evaluate(
        self, model: LanguageModel, split: str, on_batch: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Raise an error: benchmarks take steps only."""
        raise NotImplementedError


def bare_trainer(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    bf16: bool,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Trainer:
    """Return a trainer with a constant learning rate, whose ``train_step`` is measured."""
    task, progress, stop = TrainingOnly(batches), Progress(), StopSignal(group)
    tracker = Tracker()
    checkpoints = CheckpointWriter(Path(), {}, model, optimizer, progress, group)
    return Trainer(
        Validator(model, task, progress, checkpoints, tracker, stop, group, total_steps=1),
        optimizer=optimizer,
        schedule=ScheduleConfig(name="constant"),
        config=TrainerConfig(epochs=1_000_000),
        device=next(model.parameters()).device,
        bf16=bf16,
    )


def settings_from_command_line(docstring: str | None, *defaults: str) -> TrainSettings:
    """Return the settings that ``python -m korlm.train`` would have with the same overrides."""
    parser = argument_parser(docstring)
    parser.add_argument(
        "overrides",
        nargs="+",
        metavar="KEY=VALUE",
        help="settings as of python -m korlm.train; prepared=FOLDER, the text, is required",
    )
    return settings_of([*defaults, *parser.parse_args().overrides])


def settings_of(overrides: Sequence[str]) -> TrainSettings:
    """Return the settings of ``python -m korlm.train`` for a neural model and a prepared corpus."""
    store_schemas()
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        settings = to_settings(compose("train", [quote_hangul(o) for o in overrides]))
    assert isinstance(settings, TrainSettings)
    if settings.prepared is None:
        raise SystemExit("prepared=FOLDER is required: the prepared corpus to train on")
    if settings.model.name == "ngram":
        raise SystemExit("model=ngram has no training steps; choose a neural model")
    return settings


def trainer_from_settings(settings: TrainSettings) -> Trainer:
    """Return a trainer of a new model on a prepared corpus, on one thread of the CPU."""
    assert settings.prepared is not None
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    prepared = open_prepared(Path(settings.prepared))
    model = build_model(settings.model, len(prepared.vocab), prepared.vocab.tokens)
    bf16 = uses_bf16(settings.trainer, torch.device("cpu"))
    ids = prepared.ids("train")
    batches = build_batches(ids, settings.batches, True, settings.seed, "train")
    return bare_trainer(model, build_optimizer(model, settings.optimizer, bf16), batches, bf16)


def zipf_batches(
    num_tokens: int,
    vocab_size: int,
    batch_size: int,
    length: int,
    device: torch.device | None = None,
) -> StreamBatches:
    """Return batches of random ids whose frequencies follow Zipf's law, like those of words.

    The frequencies decide how many rows of the embedding a step touches.
    """
    ids = np.random.default_rng(1).zipf(1.2, num_tokens) % (vocab_size - 4) + 4
    return StreamBatches(ids.astype(np.uint32), batch_size, length, device)


def peer_model(folder: Path, vocab_size: int, units: int, layers: int, dropout: float) -> Any:
    """Return the tied LSTM of model.py of PyTorch's example word_language_model in a folder."""
    spec = importlib.util.spec_from_file_location("peer_model", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RNNModel("LSTM", vocab_size, units, units, layers, dropout, True)


def endless(batches: Batches) -> Iterator[Batch]:
    """Yield the batches of one epoch after another, without end."""
    for epoch in itertools.count():
        yield from batches.epoch(epoch)
