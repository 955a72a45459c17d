"""Base classes of tasks: the contract with the training loop.

A task owns the batches, the loss and the metrics. The training loop (``korlm.training``) owns the
optimizer, the schedule, checkpoints and logging, and knows no model and no metric by name.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from korlm.config import TrainSettings, registry
from korlm.config.metrics import SPLITS, is_larger_better, metrics_of
from korlm.dataset.batches import Batch, Batches, RankBatches
from korlm.dataset.example_batches import ExampleBatches, TargetsOf
from korlm.dataset.prepared import Prepared
from korlm.dataset.storage.id_stream import Ids, Int64
from korlm.dataset.text_encoder import EncodedText
from korlm.dataset.vocab import Vocab
from korlm.models.base import TrainingLoss
from korlm.modules.base import State, Trainable
from korlm.runs.trained_run import Run
from korlm.utils.distributed import SINGLE_PROCESS, ProcessGroup
from korlm.utils.errors import CheckpointError, ConfigError
from korlm.utils.machine import peak_memory_mb, reset_peak_memory
from korlm.utils.torch_backend import tf32


class PassMeter:
    """Measures time and peak memory of a pass over a split, from its creation."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._started = device, time.perf_counter()
        reset_peak_memory()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def peak_memory_mb(self) -> float:
        """Return the peak memory in MiB: of the GPU, or of the process."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / (1 << 20)
        return peak_memory_mb()

    def metrics(self, count: int, unit: str) -> dict[str, float]:
        """Return the entries of metrics.json for ``count`` predictions; ``unit`` is plural."""
        seconds = time.perf_counter() - self._started
        return {
            f"{unit}_per_second": count / max(seconds, 1e-9),
            "seconds": seconds,
            "peak_memory_mb": self.peak_memory_mb(),
        }


ModelT = TypeVar("ModelT", bound=Trainable)
Counts = npt.NDArray[np.float64]


class Predictor(ABC):
    """Predictions of a trained model of a task for lines of text.

    Attributes:
        schema: columns of a prediction.
    """

    schema: pa.Schema

    @abstractmethod
    def predict(self, lines: EncodedText) -> list[dict[str, Any]]:
        """Return a prediction for each line, in order, blank lines included."""

    def set_num_best(self, number: int) -> None:
        """Set the number of texts to write for each line; 1 by default.

        Raises:
            ConfigError: the task writes no texts, or its search finds fewer.
        """
        if number > 1:
            raise ConfigError(
                f"num_best={number}: only a run of task=seq2seq has several predictions of a line"
            )


class Task(ABC, Generic[ModelT]):
    """Batches, loss and metrics that a model is trained with.

    Args:
        settings: of the run.
        prepared: the corpus.
        folder: the run directory.
        device: of the model.
        group: the processes among which the rows of each batch are divided.
        labels: of a trained model; none: those of the training split.

    Attributes:
        name: the name of the task, under which its metrics are registered
            (``korlm.config.metrics``).
        monitor: the metric of the validation split that selects the best checkpoint.
        headline: the metric of a validation that the log shows. A validation in which it is not
            finite is never the best.
        train_headline: the metric of ``train_metrics`` that the log and the progress bar show.
        count_unit: what the loss is averaged over, in the plural.
        eval_batches: by split; the training split too, in evaluation order.
        labels: the labels that the model predicts; stored in checkpoints.
    """

    name: ClassVar[str] = ""
    monitor: str = "loss"
    headline: str = "loss"
    train_headline: ClassVar[str] = "loss"
    count_unit: ClassVar[str] = "tokens"

    train_batches: Batches
    eval_batches: Mapping[str, Batches]
    labels: tuple[str, ...]

    def __init__(
        self,
        settings: TrainSettings,
        prepared: Prepared,
        folder: Path,
        device: torch.device,
        group: ProcessGroup = SINGLE_PROCESS,
        labels: Sequence[str] = (),
    ) -> None:
        self.settings, self.prepared, self.folder = settings, prepared, folder
        self.device, self.group, self.labels = device, group, tuple(labels)
        self.set_up()

    def set_up(self) -> None:
        """Set the batches and labels from ``settings`` and ``prepared``; the constructor calls it.

        A corpus without a training split, which a trained model is evaluated on, has no
        ``train_batches``.

        Raises:
            KorlmError: the corpus does not have what the task needs.
        """

    def rows_of_process(self, batches: Batches) -> Batches:
        """Return batches with the rows that this process works on."""
        if self.group.world_size == 1:
            return batches
        return RankBatches(batches, self.group.rank, self.group.world_size)

    @classmethod
    @abstractmethod
    def build_model(cls, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]) -> Trainable:
        """Return an untrained model; ``labels`` are the task's attribute of this name."""

    @classmethod
    def build_predictor(cls, run: Run, model: Any, device: torch.device) -> Predictor:
        """Return what korlm.predict uses.

        Args:
            run: the run.
            model: of ``build_model``, on ``device``, in evaluation mode.
            device: of the model.

        Raises:
            CheckpointError: korlm.predict does not apply to this task.
        """
        raise CheckpointError(
            f"{run.folder}: a run of task={run.settings.task.name}, to which korlm.predict does "
            "not apply; a language model is used by korlm.score, korlm.generate and korlm.rescore"
        )

    def begin_step(self, step: int, total_steps: int) -> None:
        """Prepare optimizer step ``step``, from 0, for schedules of the task's own."""

    @abstractmethod
    def training_loss(self, model: ModelT, batch: Batch, state: State | None) -> TrainingLoss:
        """Return the loss of a batch, summed over its targets, and the state after it.

        Args:
            model: in training mode, under autocast.
            batch: on the model's device, with one row or more.
            state: the state after the previous batch, detached; None at the start of an epoch, or
                if ``train_batches`` do not carry it.
        """

    @abstractmethod
    def evaluate(
        self, model: ModelT, split: str, on_batch: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Return the metrics of a split, with the keys of metrics.json.

        They are equal in all processes, except times and memory.

        Args:
            model: set to evaluation mode.
            split: train, valid or test.
            on_batch: called before each batch; it may raise an exception to stop the evaluation.
        """

    def cost(self, metrics: Mapping[str, float]) -> float:
        """Return the value of ``monitor``, negated if larger is better."""
        value = metrics[self.monitor]
        return -value if is_larger_better(self.monitor) else value

    def train_metrics(self, loss: float) -> dict[str, float]:
        """Return the metrics that follow from a training loss in nats per target."""
        return {"loss": loss}

    def samples(self, model: ModelT) -> dict[str, str]:
        """Return texts that show what the model does, in Markdown, by TensorBoard tag."""
        return {}

    def images(self, model: ModelT) -> dict[str, npt.NDArray[np.uint8]]:
        """Return images of the last validation, (height, width, 3), by TensorBoard tag."""
        return {}

    def warnings(self, total_steps: int) -> list[str]:
        """Return advice on settings that make a poor model, one line each, before training.

        ``total_steps`` are those of the whole run; 1 for a model that is counted.
        """
        return []

    def log_hints(self) -> list[str]:
        """Return what to know about the log, one line each, before training."""
        return []

    def verdict(self, best_cost: float) -> str:
        """Return a warning if the best model is worse than chance, else an empty string."""
        return ""

    def best_scalars(self, best_cost: float) -> dict[str, float]:
        """Return the TensorBoard scalars of the best validation so far, by tag."""
        best = -best_cost if is_larger_better(self.monitor) else best_cost
        return {f"best/valid_{self.monitor}": best}

    def train_scalars(self, loss: float) -> dict[str, float]:
        """Return the TensorBoard scalars of a training loss, by tag."""
        return {f"{name}/train": value for name, value in self.train_metrics(loss).items()}

    def eval_scalars(self, split: str, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the TensorBoard scalars of an evaluation, by tag."""
        return {
            f"{metric.key}/{split}" if metric.charts == SPLITS else f"quality/{metric.key}": (
                metrics[metric.key]
            )
            for metric in metrics_of(self.name)
            if split in metric.charts
        }

    @property
    def charts(self) -> list[str]:
        """Return the metrics that TensorBoard shows of all splits."""
        return [metric.key for metric in metrics_of(self.name) if metric.charts == SPLITS]


def task_of(settings: TrainSettings) -> type[Task[Any]]:
    """Return the task class of a run."""
    task_class: type[Task[Any]] = registry.builder("task", settings.task.name)
    return task_class


class ExampleTask(Task[ModelT]):
    """A task of separate examples, whose metrics are functions of counts summed over examples.

    Counts add up over batches, processes and the resamples of a bootstrap.
    """

    count_unit: ClassVar[str] = "examples"

    @property
    def compared(self) -> list[str]:
        """Return the metrics that korlm.evaluate compares."""
        return [metric.key for metric in metrics_of(self.name) if metric.has_interval]

    def set_up(self) -> None:
        """See ``Task.set_up``."""
        self.read_examples()
        batches = self.settings.batches
        if "train" in self.prepared.stats:
            self.train_batches = self._batches("train", batches.batch_size, self.settings.seed)
        self.eval_batches = {
            split: self._batches(split, batches.eval_batch_size, None)
            for split in self.prepared.stats
        }

    def _batches(self, split: str, batch_size: int, seed: int | None) -> Batches:
        """Return this process's rows of the batches of a split, shuffled if there is a seed."""
        sequences, targets = self.examples(split)
        batches = ExampleBatches(sequences, targets, batch_size, seed, self.target_lengths(split))
        return self.rows_of_process(batches)

    @abstractmethod
    def read_examples(self) -> None:
        """Read the examples of all splits, and set ``labels`` if they are not given.

        Raises:
            KorlmError: the corpus does not have what the task needs.
        """

    @abstractmethod
    def examples(self, split: str) -> tuple[Sequence[Ids], TargetsOf]:
        """Return the token ids of each example of a split, and a function of their targets."""

    def target_lengths(self, split: str) -> Int64 | None:
        """Return the number of targets of each example, (N,), or None if they are not padded."""
        return None

    @property
    @abstractmethod
    def num_counts(self) -> int:
        """Number of counts of an example, K."""

    def example_counts(
        self, model: ModelT, split: str, on_batch: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[list[int], Counts]]:
        """Yield the counts of each part of the batches of a split (``Batch.parts``).

        Yields:
            The indices of B examples in their split, and float64 (B, K).
        """
        model = self.inference_model(model)
        for batch in self.eval_batches[split].epoch(0):
            on_batch()
            for part in batch.to(self.device).parts(self.settings.batches.max_tokens):
                assert part.rows is not None
                yield part.rows.tolist(), self.batch_counts(model, split, part)

    def inference_model(self, model: ModelT) -> ModelT:
        """Return the model for a pass over a split; tasks may precompute derived weights."""
        return model

    @abstractmethod
    def batch_counts(self, model: ModelT, split: str, batch: Batch) -> Counts:
        """Return the counts of a batch on the model's device, float64 (B, K)."""

    @abstractmethod
    def metrics_of(self, counts: Counts, split: str) -> dict[str, float]:
        """Return metrics of counts that were summed over examples of a split, (K,)."""

    @abstractmethod
    def num_examples(self, split: str) -> int:
        """Return the number of examples of a split, over all processes."""

    @torch.inference_mode()
    def evaluate(
        self, model: ModelT, split: str, on_batch: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """See ``Task.evaluate``."""
        meter = PassMeter(self.device)
        model.eval()
        with tf32(False):
            parts = [counts.sum(0) for _, counts in self.example_counts(model, split, on_batch)]
        # A process without a row still joins the sum.
        sums = np.sum([np.zeros(self.num_counts), *parts], axis=0)
        sums = self.group.sum(torch.from_numpy(sums)).numpy()
        count = self.num_examples(split)
        return {
            "num_examples": count,
            **self.metrics_of(sums, split),
            **meter.metrics(count, "examples"),
        }
