"""The training loop and the evaluation pass, readable from top to bottom."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from korlm.config import Precision, ScheduleConfig, TrainerConfig
from korlm.data.batches import Batch, Batches
from korlm.data.progress import ProgressBar
from korlm.data.vocab import UNK_ID
from korlm.errors import TrainingError
from korlm.metrics import Tally, exp
from korlm.models import threads
from korlm.models.base import LanguageModel, State, detach
from korlm.signals import ending
from korlm.training.device import autocast, tf32
from korlm.training.distributed import ALONE, Group
from korlm.training.optim import Plateau, clip_gradients, learning_rate_factor

logger = logging.getLogger(__name__)

ADVICE = (
    "lower optimizer.lr, trainer.clip_norm or, with optimizer=muon, optimizer.matrix_lr; "
    "checkpoints, if any, are from before"
)


class Stopped(Exception):  # noqa: N818 - the user asked for it
    """Ctrl-C or the end of a cluster's time, noticed between two steps."""


class StopSignal:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a wish that is looked at between steps.

    A second SIGINT interrupts at once.

    Args:
        group: the processes that stop together, whichever of them was told to.
    """

    def __init__(self, group: Group = ALONE) -> None:
        self.wished = False
        self._group = group
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in ending():
            self._before[number] = signal.signal(number, self._wish)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _wish(self, number: int, frame: FrameType | None) -> None:
        if self.wished and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.wished = True

    def is_agreed(self) -> bool:
        """Whether a process of the group was told to stop; all ask at the same point."""
        return self._group.any(self.wished)

    def check(self) -> None:
        """Raises ``Stopped`` if somebody wished it."""
        if self.is_agreed():
            raise Stopped


@dataclass
class Progress:
    """Where training stands; plain numbers, so that a checkpoint holds them as they are.

    Attributes:
        step: optimizer steps done.
        epoch: passes over train that are done.
        batch: batches of the current pass that are done.
        epoch_nats: summed loss over them.
        epoch_tokens: tokens in them.
        best_loss: lowest valid loss so far, nats per token.
        best_step: where it was found.
        bad_validations: validations since then.
        validated_step: step of the last validation.
        seconds: spent in training, earlier sessions included.
        plateau: memory of the plateau schedule.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    epoch_nats: float = 0.0
    epoch_tokens: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    bad_validations: int = 0
    validated_step: int = -1
    seconds: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)

    def plain(self) -> dict[str, Any]:
        """As a dict of numbers."""
        return asdict(self)

    @classmethod
    def restore(cls, plain: dict[str, Any]) -> Progress:
        """From what ``plain`` gave."""
        return cls(**{**plain, "plateau": Plateau(**plain["plateau"])})


@torch.inference_mode()
def evaluate(
    model: LanguageModel,
    batches: Batches,
    device: torch.device,
    stop: StopSignal | None = None,
    progress: bool = False,
    group: Group = ALONE,
) -> Tally:
    """One pass without dropout, in fp32: what every token of a split costs.

    Args:
        model: left in evaluation mode.
        batches: of the split.
        device: where the model is.
        stop: looked at between batches.
        progress: whether to show how far it is.
        group: the processes among which the rows of ``batches`` are shared; all are given the sums
            over all.
    """
    model.eval()
    started = time.perf_counter()
    sums = torch.zeros(2, dtype=torch.float64, device=_double(device))
    unknown = torch.zeros((), dtype=torch.int64, device=device)
    tokens = 0
    state: State | None = None
    bar = ProgressBar(total=len(batches), desc="evaluating", leave=False, shown=progress)
    with bar, tf32(False):
        for batch in batches.epoch(0):
            if stop is not None:
                stop.check()
            tokens += batch.num_tokens
            bar.update()
            if not len(batch.inputs):
                continue
            batch = batch.to(device)
            nats, after = model.nats(batch.inputs, batch.targets, state, batch.lengths)
            state = after if batches.carries_state else None
            is_unk = batch.targets == UNK_ID
            nats = nats.to(sums.device, torch.float64)
            of_unk = torch.where(is_unk.to(sums.device), nats, 0.0)  # an index would make us wait
            sums += torch.stack([nats.sum(), of_unk.sum()])
            unknown += is_unk.sum()
        total, unk_nats = group.sum(sums).tolist()
        unknown = group.sum(unknown)
        return Tally(total, unk_nats, tokens, int(unknown), time.perf_counter() - started)


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
    group: Group = ALONE

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        steps = self.config.epochs * len(self.train)
        return min(steps, self.config.max_steps or steps)

    @property
    def is_done(self) -> bool:
        """Whether all steps are done, or valid loss has stopped falling for good."""
        patience = self.config.patience
        tired = patience is not None and self.progress.bad_validations >= patience
        return tired or self.progress.step >= self.total_steps

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
            shown=self.group.is_first,
        )
        neighbours = threads.Neighbours(self.bf16)
        with bar, tf32(self.config.precision is not Precision.fp32):
            # A session that was stopped at the end of an epoch left these two undone.
            self._validate_if_due(bar)
            self._end_epoch_if_due()
            while not self.is_done:
                self._run_epoch(bar, neighbours)
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

    def _run_epoch(self, bar: ProgressBar, neighbours: threads.Neighbours) -> None:
        """The rest of one pass over train."""
        progress = self.progress
        pending = _Pending()
        saved = time.monotonic()
        for batch in self.train.epoch(progress.epoch, progress.batch):
            self._step(batch, pending)
            if (
                len(pending.losses) >= self.config.log_every
                or self.stop.is_agreed()
                or self._is_validation_due()
            ):
                self._report(pending, bar)
                neighbours.look()
                self.stop.check()
                self._validate_if_due(bar)
                if self.group.any(time.monotonic() - saved > 60 * self.config.checkpoint_minutes):
                    self.save()
                    saved = time.monotonic()
                if self.is_done:
                    return
                pending = _Pending()

    def _step(self, batch: Batch, pending: _Pending) -> None:
        """One optimizer step; waits for nothing."""
        progress = self.progress
        lr = self.optimizer.defaults["lr"] * progress.plateau.factor
        lr *= learning_rate_factor(self.schedule, progress.step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        batch = batch.to(self.device)
        state = detach(self.state) if self.state is not None and self.train.carries_state else None
        if len(batch.inputs):
            with autocast(self.device, self.bf16):
                total, nats, after = self.model.objective(
                    batch.inputs, batch.targets, state, batch.lengths
                )
            self.state = detach(after)
        else:  # a small batch whose rows are with other processes
            total = nats = torch.zeros((), device=self.device, requires_grad=True)
        self.optimizer.zero_grad(set_to_none=True)
        (total / batch.num_tokens).backward()  # type: ignore[no-untyped-call]
        self.group.sum_gradients(self.model.parameters())
        norm = clip_gradients(self.model.parameters(), self.config.clip_norm)
        with threads.passing(sum(p.numel() for p in self.model.parameters())):
            self.optimizer.step()
        progress.step += 1
        progress.batch += 1
        pending.add(nats.detach(), norm, batch.num_tokens, lr)

    def _report(self, pending: _Pending, bar: ProgressBar) -> None:
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
        progress, every = self.progress, self.config.valid_every
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
        progress.bad_validations = 0 if improved else progress.bad_validations + 1
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


class _Pending:
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
