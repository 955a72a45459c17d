"""The training loop and the evaluation pass, readable from top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from korlm.config import Precision, ScheduleConfig, TrainerConfig
from korlm.dataset.batches import Batch, Batches
from korlm.evaluation.metrics import exp
from korlm.models.base import LanguageModel
from korlm.modules.state import State, detach_state
from korlm.training.distributed import SINGLE_PROCESS, ProcessGroup
from korlm.training.optimizers import clip_gradients, learning_rate_factor
from korlm.training.state import Progress
from korlm.training.stop import StopSignal
from korlm.utils import threads
from korlm.utils.errors import TrainingError
from korlm.utils.progress import ProgressBar
from korlm.utils.torch_backend import autocast, tf32

logger = logging.getLogger(__name__)


ADVICE = (
    "lower optimizer.lr, trainer.clip_norm or, with optimizer=muon, optimizer.matrix_lr; "
    "checkpoints, if any, are from before"
)


def _double(device: torch.device) -> torch.device:
    """Where sums in double precision can live: MPS has none."""
    return torch.device("cpu") if device.type == "mps" else device


@dataclass
class Trainer:
    """Everything that the loop works with.

    Attributes:
        model: on ``device``.
        optimizer: over its parameters.
        schedule: of the learning rate.
        config: how long and how.
        train: training batches.
        device: where the model is.
        bf16: whether matrix products run in bf16.
        progress: where training stands; changed as it goes.
        state: what the model has read of the stream.
        validate: measures valid, keeps the best model; gives valid loss.
        save: writes last.pt.
        point: tells TensorBoard (step, loss, lr, gradient norm, tokens per second).
        stop: the user's wish to end.
        group: the processes among which the rows of ``train`` are shared.
    """

    model: LanguageModel
    optimizer: torch.optim.Optimizer
    schedule: ScheduleConfig
    config: TrainerConfig
    train: Batches
    device: torch.device
    bf16: bool
    progress: Progress
    state: State | None
    validate: Callable[[], float]
    save: Callable[[], None]
    point: Callable[[int, float, float, float, float], None]
    stop: StopSignal
    group: ProcessGroup = SINGLE_PROCESS

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        steps = self.config.epochs * len(self.train)
        return min(steps, self.config.max_steps or steps)

    @property
    def is_done(self) -> bool:
        """Whether all steps are done, or valid loss has stopped falling for good."""
        patience = self.config.early_stopping_patience
        patience_exhausted = (
            patience is not None and self.progress.validations_without_improvement >= patience
        )
        return patience_exhausted or self.progress.step >= self.total_steps

    def run(self) -> None:
        """Trains until it is done.

        Raises:
            Stopped: the user wished it; ``progress`` and ``state`` are those of the last step.
            TrainingError: a loss is not finite.
        """
        progress = self.progress
        bar = ProgressBar(
            total=self.total_steps,
            initial=progress.step,
            unit="step",
            desc="training",
            shown=self.group.is_main_process,
        )
        contention_monitor = threads.CpuContentionMonitor(self.bf16)
        with bar, tf32(self.config.precision is not Precision.fp32):
            # A session that was stopped at the end of an epoch left these two undone.
            self._validate_if_due(bar)
            self._end_epoch_if_due()
            while not self.is_done:
                self._run_epoch(bar, contention_monitor)
                self._end_epoch_if_due()

    def _end_epoch_if_due(self) -> None:
        """Turns to the next pass over train when the current one is done."""
        progress = self.progress
        if progress.batch < len(self.train):
            return
        progress.epoch += 1
        progress.batch = 0
        progress.epoch_nats, progress.epoch_tokens = 0.0, 0
        self.state = None
        self.save()

    def _run_epoch(
        self, bar: ProgressBar, contention_monitor: threads.CpuContentionMonitor
    ) -> None:
        """The rest of one pass over train."""
        progress = self.progress
        pending = StepBuffer()
        saved = time.monotonic()
        for batch in self.train.epoch(progress.epoch, progress.batch):
            self._step(batch, pending)
            if (
                len(pending.losses) >= self.config.log_every
                or self.stop.should_stop()
                or self._is_validation_due()
            ):
                self._report(pending, bar)
                contention_monitor.poll()
                self.stop.check()
                self._validate_if_due(bar)
                if self.group.any(
                    time.monotonic() - saved > 60 * self.config.checkpoint_every_minutes
                ):
                    self.save()
                    saved = time.monotonic()
                if self.is_done:
                    return
                pending = StepBuffer()

    def _step(self, batch: Batch, pending: StepBuffer) -> None:
        """One optimizer step; waits for nothing."""
        progress = self.progress
        lr = self.optimizer.defaults["lr"] * progress.plateau.factor
        lr *= learning_rate_factor(self.schedule, progress.step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        batch = batch.to(self.device)
        state = (
            detach_state(self.state)
            if self.state is not None and self.train.carries_state
            else None
        )
        if len(batch.inputs):
            with autocast(self.device, self.bf16):
                total, nats, after = self.model.training_loss(
                    batch.inputs, batch.targets, state, batch.lengths
                )
            self.state = detach_state(after)
        else:  # a small batch whose rows are with other processes
            total = nats = torch.zeros((), device=self.device, requires_grad=True)
        self.optimizer.zero_grad(set_to_none=True)
        (total / batch.num_tokens).backward()  # type: ignore[no-untyped-call]
        self.group.sum_gradients(self.model.parameters())
        norm = clip_gradients(self.model.parameters(), self.config.clip_norm)
        with threads.elementwise_threads(sum(p.numel() for p in self.model.parameters())):
            self.optimizer.step()
        progress.step += 1
        progress.batch += 1
        pending.add(nats.detach(), norm, batch.num_tokens, lr)

    def _report(self, pending: StepBuffer, bar: ProgressBar) -> None:
        """Fetches the losses since the last report, all at once, and tells them."""
        progress = self.progress
        losses = self.group.sum(torch.stack(pending.losses)).tolist()
        norms = torch.stack(pending.norms).tolist()
        seconds = time.perf_counter() - pending.started
        first = progress.step - len(losses)
        for number, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = "loss" if not math.isfinite(loss) else "gradient"
                raise TrainingError(
                    f"the {what} is not finite at step {first + number + 1} (epoch "
                    f"{progress.epoch + 1}, batch {progress.batch - len(losses) + number + 1}): "
                    + ADVICE
                )
        nats, tokens = math.fsum(losses), sum(pending.tokens)
        progress.epoch_nats += nats
        progress.epoch_tokens += tokens
        progress.seconds += seconds
        loss, speed = nats / tokens, tokens / seconds
        self.point(progress.step, loss, pending.lr, norms[-1], speed)
        bar.set_postfix_str(
            f"epoch {progress.epoch + 1}/{self.config.epochs}, loss {loss:.3f}, "
            f"perplexity {exp(loss):.1f}, {speed:,.0f} tokens/s",
            refresh=False,
        )
        bar.update(len(losses))

    def _is_validation_due(self) -> bool:
        progress, every = self.progress, self.config.eval_every
        if progress.step == 0 or progress.validated_step == progress.step:
            return False
        at_end = progress.batch == len(self.train) or progress.step >= self.total_steps
        return at_end or (every is not None and progress.step % every == 0)

    def _validate_if_due(self, bar: ProgressBar) -> None:
        """Measures valid, remembers whether it got better, and tells it in one line."""
        if not self._is_validation_due():
            return
        progress = self.progress
        started = time.perf_counter()
        loss = self.validate()
        if not math.isfinite(loss):
            raise TrainingError(f"valid loss is {loss} at step {progress.step}: " + ADVICE)
        # A perplexity beyond all floats is not a result, even if the one before was worse.
        improved = loss < progress.best_loss and math.isfinite(exp(loss))
        progress.plateau.update(self.schedule, improved)
        progress.validations_without_improvement = (
            0 if improved else progress.validations_without_improvement + 1
        )
        if improved:
            progress.best_loss, progress.best_step = loss, progress.step
        progress.validated_step = progress.step
        progress.seconds += time.perf_counter() - started
        train = progress.epoch_nats / max(progress.epoch_tokens, 1)
        with bar.external_write_mode():
            logger.info(
                "epoch %d/%d  step %d  train perplexity %.2f  valid perplexity %.2f%s  %.0f s",
                progress.epoch + 1,
                self.config.epochs,
                progress.step,
                exp(train),
                exp(loss),
                " (best)" if improved else "",
                progress.seconds,
            )


class StepBuffer:
    """What happened since the last report; losses and norms stay on the device until then."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.tokens: list[int] = []
        self.lr = 0.0
        self.started = time.perf_counter()

    def add(self, nats: Tensor, norm: Tensor, tokens: int, lr: float) -> None:
        """Notes one step: summed nats, gradient norm before clipping, tokens, learning rate."""
        self.losses.append(nats)
        self.norms.append(norm)
        self.tokens.append(tokens)
        self.lr = lr
