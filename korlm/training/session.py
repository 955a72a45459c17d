"""A training run from settings to metrics.json, without Hydra.

``build_session`` builds the parts; ``TrainingSession.fit`` trains, evaluates and writes the files.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from korlm.config import NgramConfig, TrainSettings, registry
from korlm.config.serialization import plain_settings
from korlm.dataset.prepared import Prepared
from korlm.detokenizers.registry import copy_to_run
from korlm.evaluation.metrics import table
from korlm.models.ngram.arpa import read_arpa
from korlm.models.ngram.model import NgramLM
from korlm.modules.base import State, Trainable
from korlm.modules.embedding import TokenEmbedding
from korlm.runs.checkpoint import Checkpoint, load_checkpoint, resume_command
from korlm.runs.device import training_device, uses_bf16
from korlm.tasks.base import Task
from korlm.tasks.language_modeling import LanguageModelingTask
from korlm.tasks.pretrained import initialize
from korlm.training.checkpointing import (
    CheckpointWriter,
    Progress,
    constant_entries,
    restore_training,
)
from korlm.training.ngram import fit_ngram
from korlm.training.optimizers import build_optimizer, split_by_depth
from korlm.training.stop import StopSignal, TrainingInterrupted
from korlm.training.trackers.base import RunStatus
from korlm.training.trackers.tracker_list import TrackerList, build_trackers
from korlm.training.trainer import Trainer, count_total_steps
from korlm.training.validation import DIVERGENCE_HINT, ValidationCallback, Validator
from korlm.utils import threads
from korlm.utils.distributed import SINGLE_PROCESS, ProcessGroup
from korlm.utils.errors import Interrupted, Pruned, TrainingError, output_errors
from korlm.utils.io.atomic_files import locked, write_json
from korlm.utils.machine import keep_freed_memory

logger = logging.getLogger(__name__)

# What a training may leave for the user in its run directory; trackers may also use a server.
RESULTS = ("metrics.json", "checkpoints", "tensorboard", "mlruns", "wandb")

Splits = dict[str, dict[str, float]]  # metrics by split


def build_session(
    settings: TrainSettings,
    prepared: Prepared,
    folder: Path,
    resumed: Checkpoint | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
    callbacks: tuple[ValidationCallback, ...] = (),
) -> TrainingSession:
    """Build a run: model, task, optimizer, logger and trainer, restored from a checkpoint if given.

    Args:
        settings: of the run; of a resumed run those of its checkpoint with the overrides of this
            command.
        prepared: the corpus.
        folder: the run directory; created unless the settings or the checkpoint are refused.
        resumed: last.pt or best.pt of the run to resume.
        group: the processes that train together; rank 0 alone writes files and logs.
        callbacks: called after each validation.
    """
    # With prepared=DIR the corpus of the settings is not the one that was read.
    config = {**plain_settings(settings), **prepared.manifest["settings"]}
    device, bf16 = _choose_device(settings, group)
    task_class: type[Task[Any]] = registry.builder("task", settings.task.name)
    task = task_class(settings, prepared, folder, device, group)
    model = _build_model(settings, prepared, task, device, bf16, is_new=resumed is None)
    optimizer = _build_optimizer(settings, model, bf16)
    progress = Progress()
    state = None
    if resumed is not None:
        source = settings.resume_from
        path = folder / "checkpoints" / f"{source.value}.pt"
        progress, state = restore_training(resumed, path, source, prepared, model, optimizer, group)
    if isinstance(model, NgramLM) and model.config.arpa and not progress.step:
        _read_arpa(model, prepared, device, progress)

    # From here on files are written: what is refused above leaves no run directory.
    constants = constant_entries(config, prepared, task.labels)
    checkpoints = CheckpointWriter(
        folder / "checkpoints", constants, model, optimizer, progress, group
    )
    tracker = TrackerList()
    if group.is_main_process:
        checkpoints.folder.mkdir(parents=True, exist_ok=True)
        copy_to_run(prepared.folder, folder)
        first_step = 0 if resumed is None else progress.step + 1
        tracker = build_trackers(settings.trainer.tracker, folder, config, first_step, task.charts)
    is_ngram = isinstance(model, NgramLM)
    total_steps = count_total_steps(settings.trainer, len(task.train_batches))
    validator = Validator(
        model=model,
        task=task,
        progress=progress,
        checkpoints=checkpoints,
        tracker=tracker,
        stop=StopSignal(group),
        group=group,
        total_steps=1 if is_ngram else total_steps,
        callbacks=callbacks,
    )
    trainer = None
    if not is_ngram:
        trainer = _build_trainer(settings, validator, optimizer, device, bf16, state)
    return TrainingSession(validator, trainer, settings, config, prepared, folder, device, bf16)


def _choose_device(settings: TrainSettings, group: ProcessGroup) -> tuple[torch.device, bool]:
    """Return the device, and whether matrix products run in bf16."""
    device = training_device(settings.trainer, group.env)
    if device.type == "cpu":
        keep_freed_memory()
    bf16 = uses_bf16(settings.trainer, device)
    if isinstance(settings.model, NgramConfig) and device.type == "mps":  # MPS has no float64
        device = torch.device("cpu")
    return device, bf16


def _build_model(
    settings: TrainSettings,
    prepared: Prepared,
    task: Task[Any],
    device: torch.device,
    bf16: bool,
    is_new: bool,
) -> Trainable:
    """Return the model on its device, with the same parameters in all processes.

    They are the random ones of the seed, or of a new run those of a pretrained model. The random
    numbers that follow differ between the processes.
    """
    torch.manual_seed(settings.seed)
    model: Trainable = task.build_model(settings, prepared.vocab, task.labels)
    if settings.init and is_new:
        initialize(model, settings, prepared.vocab)
    _configure_threads(settings, model, bf16, task.group)
    model.to(device)
    task.group.broadcast_parameters(model)
    # A different dropout in each process. From here on, nothing random may change parameters or
    # summed gradients: they must stay the same in all processes.
    if not task.group.is_main_process:
        torch.manual_seed(settings.seed + task.group.rank)
    return model


def _build_optimizer(
    settings: TrainSettings, model: Trainable, bf16: bool
) -> torch.optim.Optimizer:
    """Return the optimizer, with a group of parameters for each depth if the settings need it."""
    optimizer = build_optimizer(model, settings.optimizer, bf16)
    if settings.optimizer.layer_lr_decay < 1 or settings.trainer.gradual_unfreezing:
        split_by_depth(optimizer, model)
    return optimizer


def _build_trainer(
    settings: TrainSettings,
    validator: Validator,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    bf16: bool,
    state: State | None,
) -> Trainer:
    """Return the trainer; ``state`` is the recurrent state to start from."""
    if not validator.task.train_batches.carries_state:
        state = None
    return Trainer(
        validator,
        optimizer,
        settings.schedule,
        settings.trainer,
        device,
        bf16,
        state=None if state is None else tuple(part.to(device) for part in state),
        layer_lr_decay=settings.optimizer.layer_lr_decay,
        max_tokens=settings.batches.max_tokens,
    )


def _read_arpa(
    model: NgramLM, prepared: Prepared, device: torch.device, progress: Progress
) -> None:
    """Read the n-grams of ``model.arpa``; the time counts as training."""
    assert model.config.arpa is not None
    started = time.perf_counter()
    model.set_tables(read_arpa(Path(model.config.arpa), prepared.vocab.tokens, model.order))
    model.to(device)
    progress.seconds += time.perf_counter() - started


def _configure_threads(
    settings: TrainSettings, model: Trainable, bf16: bool, group: ProcessGroup
) -> None:
    """Set the number of CPU threads from the settings, or from the size of the model."""
    max_threads = settings.trainer.threads
    if max_threads is None and not bf16:  # metrics must not depend on the number of cores
        max_threads = min(threads.all_threads(), threads.SAME_IN_FP32)
    # Multiply-adds of the largest matrix product in a time step decide on the number of threads.
    rows = settings.batches.batch_size // group.world_size
    largest_matrix = max((weight.numel() for weight, _ in model.muon_weights()), default=0)
    threads.configure_threads(max_threads, rows * largest_matrix)


@dataclass
class TrainingSession:
    """A run directory and the parts that work in it; made by ``build_session``.

    Attributes:
        validator: has the model, the task and whatever else the trainer uses, too.
        config: the settings as plain dicts, with the corpus that was read.
        trainer: None for n-gram models, which are counted.
    """

    validator: Validator
    trainer: Trainer | None
    settings: TrainSettings
    config: dict[str, Any]
    prepared: Prepared
    folder: Path
    device: torch.device
    bf16: bool

    def __post_init__(self) -> None:
        self.model = self.validator.model
        self.task = self.validator.task
        self.progress = self.validator.progress
        self.checkpoints = self.validator.checkpoints
        self.tracker = self.validator.tracker
        self.stop = self.validator.stop
        self.group = self.validator.group

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run; 1 for an n-gram model."""
        return self.validator.total_steps

    @property
    def num_parameters(self) -> int:
        """Number of parameters, frozen ones included; of an n-gram model the number of n-grams."""
        if isinstance(self.model, NgramLM):
            return self.model.num_grams
        return sum(parameter.numel() for parameter in self.model.parameters())

    def fit(self) -> Splits:
        """Train, evaluate the best model on every split, and write metrics.json.

        Raises:
            Interrupted: a stop signal was received; last.pt is written, and the message has the
                command to resume.
            OutputError: the disk is full, or another process trains in the run directory.
            TrainingError: the training has diverged.
        """
        if self.group.is_main_process:
            self._log_start()
        status = RunStatus.failed
        with contextlib.ExitStack() as stack:
            if self.group.is_main_process:
                busy = f"{self.folder}: another process trains there; wait for it or stop it first"
                stack.enter_context(locked(self.checkpoints.folder / ".lock", busy))
            try:
                self.tracker.start()
                with self.stop:
                    self._train()
                    splits = self._finish()
                status = RunStatus.finished
            except OSError:
                with output_errors(self.folder, again=self._resume_hint()):
                    raise
            except (KeyboardInterrupt, Pruned):
                status = RunStatus.interrupted
                raise
            except TrainingInterrupted:
                status = RunStatus.interrupted
                raise Interrupted(
                    f"stopped at step {self.progress.step} of {self.total_steps}; resume with: "
                    + resume_command(self.folder, self.group.world_size)
                ) from None
            finally:
                self.tracker.close(status)
        if self.group.is_main_process:
            self._log_end(splits)
        return splits

    def _train(self) -> None:
        """Train until the end or a stop signal; write last.pt in both cases."""
        try:
            if self.trainer is not None:
                self.trainer.run()
            else:
                assert isinstance(self.model, NgramLM)
                assert isinstance(self.task, LanguageModelingTask)
                ids, tokens = self.task.ids["train"], self.prepared.vocab.tokens
                fit_ngram(self.model, ids, tokens, self.device, self.validator, self.folder)
        except TrainingInterrupted:
            self._save_last()
            raise
        self._save_last()

    def _save_last(self) -> None:
        self.tracker.flush()
        self.checkpoints.save_last(None if self.trainer is None else self.trainer.state)

    def _finish(self) -> Splits:
        """Evaluate the best model on every split, and write the files of a finished run.

        It does not write last.pt, as the model is no longer that of the last step.
        """
        self.group.barrier()  # rank 0 has written best.pt
        self._check_best()
        best = load_checkpoint(self.checkpoints.folder / "best.pt")
        self.model.load_state_dict(best["model"])
        names = list(self.task.eval_batches)
        by_split = {  # valid first: a classifier is calibrated on it
            split: self.validator.evaluate(split, show_progress=True)
            for split in sorted(names, key=lambda split: split != "valid")
        }
        splits = {split: by_split[split] for split in names}
        if not self.group.is_main_process:
            return splits
        write_json(self.folder / "training.json", self._training_metrics())
        self._log_embeddings()
        self._log_final_scalars(splits)
        self.tracker.log_result(self.progress.step, self.config, splits)
        write_json(self.folder / "metrics.json", splits)  # the last file: the run is finished
        return splits

    def _check_best(self) -> None:
        """Raise ``TrainingError`` if no validation was finite; warn about a poor model."""
        best_cost = self.progress.best_cost
        if self.trainer is None:
            return
        if math.isinf(best_cost):
            raise TrainingError(
                f"the training has diverged: valid {self.task.headline} was infinite at each "
                f"validation up to step {self.progress.step}, and there is no best model: "
                + DIVERGENCE_HINT
            )
        if self.group.is_main_process and (verdict := self.task.verdict(best_cost)):
            logger.warning("%s", verdict)

    def _training_metrics(self) -> dict[str, float]:
        """Return the contents of training.json; seconds are those of all sessions."""
        progress, unit = self.progress, self.task.count_unit
        count = progress.epoch * self.task.train_batches.num_targets + progress.epoch_tokens
        return {
            "num_parameters": self.num_parameters,
            "steps": progress.step,
            "best_step": progress.best_step,
            f"num_{unit}": count,
            "seconds": progress.seconds,
            f"{unit}_per_second": count / max(progress.seconds, 1e-9),
        }

    def _log_embeddings(self) -> None:
        """Log the best model's embeddings."""
        number = self.settings.trainer.projector_tokens
        embedding = getattr(self.model, "embedding", None)
        if number and isinstance(embedding, TokenEmbedding):
            vocab = self.prepared.vocab
            with torch.no_grad():
                matrix = embedding.full_weight()
            self.tracker.log_embeddings(matrix, vocab.tokens, vocab.counts, number)

    def _log_final_scalars(self, splits: Splits) -> None:
        """Log the test metrics.

        Those of an n-gram model are repeated at the last step of a neural model with the same
        settings, which gives a level line beside its curves.
        """
        test = self.task.eval_scalars("test", splits["test"]) if "test" in splits else {}
        self.tracker.log_scalars(self.progress.step, test)
        steps_of_sgd = count_total_steps(self.settings.trainer, len(self.task.train_batches))
        if self.trainer is None and steps_of_sgd > self.progress.step:
            valid = splits["valid"]
            scalars = self.task.eval_scalars("valid", valid)
            scalars |= self.task.best_scalars(self.task.cost(valid))
            self.tracker.log_scalars(steps_of_sgd, scalars | test)

    def _log_start(self) -> None:
        """Log what is about to be trained, and advice on settings that make a poor model."""
        logger.info(
            "%s: %s tokens of train, a vocabulary of %s",
            self.prepared.folder,
            f"{self.prepared.stats['train'].num_tokens:,}",
            f"{len(self.prepared.vocab):,}",
        )
        for line in self.task.warnings(self.total_steps):
            logger.warning("%s", line)
        if isinstance(self.model, NgramLM):
            config = self.model.config
            source = f"of {config.arpa}" if config.arpa else f"counting ({config.smoothing.value})"
            logger.info("an n-gram model of order %d: %s: %s", config.order, source, self.folder)
            return
        world_size = self.group.world_size
        logger.info(
            "training a %s of %s parameters on %s%s in %s for %s steps%s: %s",
            self.settings.model.name,
            f"{self.num_parameters:,}",
            self.device.type if world_size > 1 else self.device,
            f" by {world_size} processes" if world_size > 1 else "",
            "bf16" if self.bf16 else "fp32",
            f"{self.total_steps:,}",
            f", from step {self.progress.step:,} on" if self.progress.step else "",
            self.folder,
        )
        for line in self.task.log_hints():
            logger.info("%s", line)

    def _log_end(self, splits: Splits) -> None:
        """Log the metrics of the best model and the names of the files that are written."""
        logger.info("best model, of step %d:\n%s", self.progress.best_step, table(splits))
        written = [name for name in RESULTS if (self.folder / name).exists()]
        logger.info("%s: %s", self.folder, ", ".join(written))

    def _resume_hint(self) -> str:
        """Return how to continue after an output error."""
        if (self.checkpoints.folder / "last.pt").is_file():
            return f"resume with: {resume_command(self.folder, self.group.world_size)}"
        return "run the same command again"
