"""Contract between the training loop and a task.

A task owns the batches, the loss and the metrics. The training loop (``korlm.training``) owns the
optimizer, the schedule, checkpoints and logging, and knows no model and no metric by name.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Generic, TypeVar

from torch import nn

from korlm.dataset.batches import Batch, Batches
from korlm.models.base import TrainingLoss
from korlm.modules.state import State

ModelT = TypeVar("ModelT", bound=nn.Module)


class Task(ABC, Generic[ModelT]):
    """Batches, loss and metrics that a model is trained with.

    Attributes:
        monitor: the metric of the validation split that selects the best checkpoint.
        higher_is_better: the direction of ``monitor``.
        headline: the metric shown in the log and on the progress bar; both ``train_metrics`` and
            ``evaluate`` have it. A validation in which it is not finite is never the best.
        charts: metrics that TensorBoard shows as NAME/train, NAME/valid and NAME/test.
        quality: further metrics of the validation split, shown as quality/NAME.
        train_batches: the training batches.
        eval_batches: by split; the training split too, in evaluation order.
        chance_cost: ``cost`` of a model that has learned nothing.
    """

    monitor: ClassVar[str] = "loss"
    higher_is_better: ClassVar[bool] = False
    headline: ClassVar[str] = "loss"
    charts: ClassVar[tuple[str, ...]] = ("loss",)
    quality: ClassVar[tuple[str, ...]] = ()

    train_batches: Batches
    eval_batches: Mapping[str, Batches]
    chance_cost: float = math.inf

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
        """Return the value of ``monitor``, negated if higher is better."""
        value = metrics[self.monitor]
        return -value if self.higher_is_better else value

    def train_metrics(self, loss: float) -> dict[str, float]:
        """Return the metrics that follow from a training loss in nats per target."""
        return {"loss": loss}

    def samples(self, model: ModelT) -> dict[str, str]:
        """Return texts that show what the model does, in Markdown, by TensorBoard tag."""
        return {}

    def best_scalars(self, best_cost: float) -> dict[str, float]:
        """Return the TensorBoard scalars of the best validation so far, by tag."""
        return {f"best/valid_{self.monitor}": -best_cost if self.higher_is_better else best_cost}

    def train_scalars(self, loss: float) -> dict[str, float]:
        """Return the TensorBoard scalars of a training loss, by tag."""
        return {f"{name}/train": value for name, value in self.train_metrics(loss).items()}

    def eval_scalars(self, split: str, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the TensorBoard scalars of an evaluation, by tag."""
        scalars = {f"{name}/{split}": metrics[name] for name in self.charts}
        if split == "valid":
            scalars |= {f"quality/{name}": metrics[name] for name in self.quality}
        return scalars
