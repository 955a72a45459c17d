"""Train a model by gradient descent; the loop is ``Trainer.run`` (see README.md in this folder).

The loop calls the methods of a task (``korlm.tasks.base``), which has the batches, the loss and the
metrics, and does not depend on the kind of model.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from korlm.config import BatchesConfig, Precision, ScheduleConfig, TrainerConfig
from korlm.dataset.batches import Batch
from korlm.modules.base import State, detach_state
from korlm.training.optimizers import clip_gradients, learning_rate_factor
from korlm.training.validation import CHECKPOINT_HINT, DIVERGENCE_HINT, Validator
from korlm.utils import threads
from korlm.utils.errors import TrainingError
from korlm.utils.progress import ProgressBar
from korlm.utils.torch_backend import autocast, tf32

logger = logging.getLogger(__name__)


def count_total_steps(config: TrainerConfig, steps_per_epoch: int) -> int:
    """Return the number of optimizer steps of a whole run."""
    steps = config.epochs * steps_per_epoch
    return min(steps, config.max_steps or steps)


@dataclass
class Trainer:
    """Trains a model by gradient descent.

    Attributes:
        validator: has the model, the task and whatever else both use.
        state: recurrent state after the last batch; None at the start of an epoch, or if batches
            do not carry it.
        layer_lr_decay: see ``OptimizerConfig``.
        max_tokens: see ``BatchesConfig``.
    """

    validator: Validator
    optimizer: torch.optim.Optimizer
    schedule: ScheduleConfig
    config: TrainerConfig
    device: torch.device
    bf16: bool
    state: State | None = None
    layer_lr_decay: float = 1.0
    max_tokens: int = BatchesConfig.max_tokens

    def __post_init__(self) -> None:
        shared = self.validator
        self.model, self.task, self.progress = shared.model, shared.task, shared.progress
        self.checkpoints, self.tracker = shared.checkpoints, shared.tracker
        self.stop, self.group = shared.stop, shared.group
        self.steps_per_epoch = len(self.task.train_batches)
        self.total_steps = count_total_steps(self.config, self.steps_per_epoch)
        self._buffer = StepBuffer()
        self._trainable = {p for p in self.model.parameters() if p.requires_grad}

    def run(self) -> None:
        """Train until ``is_done``.

        The loop begins with the checks, not with a step: an interrupted session may have stopped
        after the last step of an epoch, before the validation.

        Raises:
            TrainingInterrupted: a stop signal was received; ``progress`` and ``state`` are those
                after the last step.
            TrainingError: a loss, a gradient, or the monitored metric of valid is not finite.
        """
        self._saved_at = time.monotonic()
        batches = self._remaining_batches()
        with (
            ProgressBar(
                total=self.total_steps,
                initial=self.progress.step,
                unit="step",
                desc="training",
                shown=self.group.is_main_process,
            ) as bar,
            tf32(self.config.precision is not Precision.fp32),
        ):
            while True:
                if self._is_validation_due():
                    self._validate(bar)
                if self._is_epoch_complete():
                    self._end_epoch()
                elif self._is_save_due():
                    self._save()
                if self.is_done:
                    return
                self._buffer = StepBuffer()
                while not self._is_log_due():
                    self.train_step(next(batches))
                self._log(bar)
                self.stop.check()

    @property
    def is_done(self) -> bool:
        """True if all steps are done, or early stopping has run out of patience."""
        patience = self.config.early_stopping_patience
        patience_exhausted = (
            patience is not None and self.progress.validations_without_improvement >= patience
        )
        return patience_exhausted or self.progress.step >= self.total_steps

    def _is_log_due(self) -> bool:
        """Return True after ``log_every`` steps, and before a validation, a save or a stop.

        Logging checks that all losses since the last time are finite, so no other event may happen
        before it.
        """
        num_steps = len(self._buffer.losses)
        return num_steps > 0 and (
            num_steps >= self.config.log_every
            or self._is_validation_due()
            # One collective operation for both, since this is called before each step.
            or self.group.any_rank(self._is_own_save_due() or self.stop.stop_requested)
        )

    def _is_validation_due(self) -> bool:
        progress, every = self.progress, self.config.eval_every
        if progress.step == 0 or progress.validated_step == progress.step:
            return False
        at_end = self._is_epoch_complete() or progress.step >= self.total_steps
        return at_end or (every is not None and progress.step % every == 0)

    def _is_epoch_complete(self) -> bool:
        return self.progress.batch >= self.steps_per_epoch

    def _is_save_due(self) -> bool:
        return self.group.any_rank(self._is_own_save_due())

    def _is_own_save_due(self) -> bool:
        """Return True if a save is due by the clock of this process."""
        minutes = (time.monotonic() - self._saved_at) / 60
        return minutes > self.config.checkpoint_every_minutes

    def _remaining_batches(self) -> Iterator[Batch]:
        """Yield the batches that follow ``progress``, epoch after epoch."""
        while True:
            yield from self.task.train_batches.epoch(self.progress.epoch, self.progress.batch)

    def train_step(self, batch: Batch) -> Tensor:
        """Take one optimizer step; return the summed ``nll`` of this process's rows, a scalar.

        Waits for a GPU only if the loss does: the adaptive softmax and label smoothing select rows.
        """
        progress = self.progress
        lr = self.optimizer.defaults["lr"] * progress.plateau.factor
        lr *= learning_rate_factor(self.schedule, progress.step, self.total_steps)
        for group in self.optimizer.param_groups:
            factor = self._layer_factor(group.get("depth", 0))
            group["lr"] = lr * factor
            if self.config.gradual_unfreezing:  # no gradients, which would count in the clipping
                for parameter in self._trainable & {*group["params"]}:
                    parameter.requires_grad_(factor > 0)
        self.model.train()
        self.task.begin_step(progress.step, self.total_steps)
        self.optimizer.zero_grad(set_to_none=True)
        nll = torch.zeros((), device=self.device)
        # With fewer rows than processes there may be no parts; the process still joins the sum.
        for part in batch.to(self.device).parts(self.max_tokens):
            with autocast(self.device, self.bf16):
                loss = self.task.training_loss(self.model, part, self.state)
            carries_state = self.task.train_batches.carries_state
            self.state = detach_state(loss.state) if carries_state else None
            # num_targets counts the rows of all parts and processes: gradients are summed.
            (loss.total / batch.num_targets).backward()  # type: ignore[no-untyped-call]
            nll = nll + loss.nll.detach()
        self.group.sum_gradients(self.model.parameters())
        norm = clip_gradients(self.model.parameters(), self.config.clip_norm)
        with threads.elementwise_threads(sum(p.numel() for p in self.model.parameters())):
            self.optimizer.step()
        progress.step += 1
        progress.batch += 1
        self._buffer.add(nll, norm, batch.num_targets, lr)
        return nll

    def _layer_factor(self, depth: int) -> float:
        """Return the learning rate of a layer / that of the head; 0 while it is frozen."""
        if self.config.gradual_unfreezing and self.progress.epoch < depth:
            return 0.0
        decay: float = self.layer_lr_decay**depth
        return decay

    def _log(self, bar: ProgressBar) -> None:
        """Log the buffered steps, and check that their losses and gradients are finite."""
        progress, buffer = self.progress, self._buffer
        losses = self.group.sum(torch.stack(buffer.losses)).tolist()
        norms = torch.stack(buffer.norms).tolist()
        seconds = time.perf_counter() - buffer.started
        for offset, (loss, norm) in enumerate(zip(losses, norms, strict=True), 1 - len(losses)):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                name = "gradient" if math.isfinite(loss) else "loss"
                raise TrainingError(
                    f"the {name} is not finite at step {progress.step + offset} (epoch "
                    f"{progress.epoch + 1}, batch {progress.batch + offset}): {DIVERGENCE_HINT}; "
                    + CHECKPOINT_HINT
                )
        nats = math.fsum(losses)
        progress.epoch_nats += nats
        progress.epoch_tokens += buffer.num_targets
        progress.seconds += seconds
        loss, speed = nats / buffer.num_targets, buffer.num_targets / seconds
        self.tracker.log_scalars(
            progress.step,
            {
                **self.task.train_scalars(loss),
                "train/lr": buffer.lr,
                "train/grad_norm": norms[-1],
                f"train/{self.task.count_unit}_per_second": speed,
            },
        )
        bar.set_postfix_str(
            f"epoch {progress.epoch + 1}/{self.config.epochs}, loss {loss:.3f}, "
            f"{self._train_headline(loss)}{speed:,.0f} {self.task.count_unit}/s",
            refresh=False,
        )
        bar.update(len(losses))

    def _train_headline(self, loss: float) -> str:
        """Return the metric of the progress bar, unless it is the loss."""
        name = self.task.train_headline
        return "" if name == "loss" else f"{name} {self.task.train_metrics(loss)[name]:.1f}, "

    def _validate(self, bar: ProgressBar) -> None:
        """Validate, and log one line."""
        progress, task = self.progress, self.task
        started = time.perf_counter()
        metrics, is_best = self.validator.validate()
        progress.plateau.update(self.schedule, is_best)
        progress.seconds += time.perf_counter() - started
        train_loss = progress.epoch_nats / max(progress.epoch_tokens, 1)
        with bar.external_write_mode():
            logger.info(
                "epoch %d/%d  step %d  train %s %s  valid %s %s%s  %.0f s",
                progress.epoch + 1,
                self.config.epochs,
                progress.step,
                task.train_headline,
                _format(task.train_metrics(train_loss)[task.train_headline]),
                task.headline,
                _format(metrics[task.headline]),
                " (best)" if is_best else "",
                progress.seconds,
            )

    def _end_epoch(self) -> None:
        """Start the next epoch, and save."""
        progress = self.progress
        progress.epoch += 1
        progress.batch = 0
        progress.epoch_nats, progress.epoch_tokens = 0.0, 0
        self.state = None
        self._save()

    def _save(self) -> None:
        """Write last.pt."""
        self.tracker.flush()
        self.checkpoints.save_last(self.state)
        self._saved_at = time.monotonic()


def _format(value: float) -> str:
    """Return a metric for the log, with more digits if it may be a ratio."""
    return f"{value:.2f}" if abs(value) > 1 else f"{value:.4f}"


@dataclass
class StepBuffer:
    """Steps since the last log; losses and gradient norms stay on the device until then.

    Attributes:
        losses: summed loss of each batch, in nats; of the rows of this process.
        num_targets: number of targets of the batches, over all processes.
    """

    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    num_targets: int = 0
    lr: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, loss: Tensor, norm: Tensor, num_targets: int, lr: float) -> None:
        """Add a step."""
        self.losses.append(loss)
        self.norms.append(norm)
        self.num_targets += num_targets
        self.lr = lr
