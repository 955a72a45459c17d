"""The training loop, with a task whose losses can be computed by hand."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fixed_model import FixedModel, ids_of
from torch import Tensor

from korlm.config import PlateauConfig, ScheduleConfig, SGDConfig, TrainerConfig, TrainSettings
from korlm.dataset.batches import Batch, Batches, BucketedSentenceBatches, StreamBatches
from korlm.dataset.vocab import EOS_ID, PAD_ID, Vocab
from korlm.models.base import TrainingLoss
from korlm.modules.base import State
from korlm.tasks.base import Task
from korlm.training.checkpointing import CheckpointWriter, Progress, gather_rows
from korlm.training.optimizers import build_optimizer, learning_rate_factor
from korlm.training.stop import StopSignal, TrainingInterrupted
from korlm.training.trackers.base import Tracker
from korlm.training.trainer import Trainer, autocast, count_total_steps
from korlm.training.validation import Validator
from korlm.utils.distributed import SINGLE_PROCESS
from korlm.utils.errors import TrainingError

CPU = torch.device("cpu")

Make = Callable[..., Any]


class ScriptedTask(Task[FixedModel]):
    """Trains a fixed model, and returns the given valid losses."""

    headline = train_headline = "perplexity"

    @classmethod
    def build_model(
        cls, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]
    ) -> FixedModel:
        raise AssertionError("tests build the model")

    def __init__(self, batches: Batches, valid_losses: list[float]) -> None:
        self.train_batches = batches
        self.eval_batches = {"valid": batches}
        self._valid_losses = iter(valid_losses)

    def training_loss(self, model: FixedModel, batch: Batch, state: State | None) -> TrainingLoss:
        return model.training_loss(batch.inputs, batch.targets, state, batch.lengths)

    def evaluate(
        self, model: FixedModel, split: str, on_batch: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        return self.train_metrics(next(self._valid_losses, 1.0))

    def train_metrics(self, loss: float) -> dict[str, float]:
        perplexity = math.exp(loss) if loss < 700 else loss if math.isnan(loss) else math.inf
        return {"loss": loss, "perplexity": perplexity}


class RecordingLogger(Tracker):
    """Records what a trainer logs, validates and saves.

    Attributes:
        points: (step, loss, learning rate, gradient norm, tokens per second).
        validations: steps.
        saves: (step, epoch, batch) of last.pt.
        sums: (tokens, nats) of the epoch at each validation.
        best: the best monitored metric at each validation.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.points: list[tuple[float, ...]] = []
        self.validations: list[int] = []
        self.saves: list[tuple[int, int, int]] = []
        self.sums: list[tuple[int, float]] = []
        self.best: list[float] = []

    def log_scalars(self, step: int, scalars: Any) -> None:
        names = ("loss/train", "train/lr", "train/grad_norm", "train/tokens_per_second")
        if "loss/train" in scalars:
            self.points.append((step, *(scalars[name] for name in names)))
            return
        self.validations.append(step)
        self.sums.append((self.progress.epoch_tokens, self.progress.epoch_nats))
        self.best += [value for name, value in scalars.items() if name.startswith("best/")]


class RecordingCheckpointWriter(CheckpointWriter):
    """Records when last.pt would be written."""

    records: RecordingLogger

    def save_best(self) -> None:
        pass

    def save_last(self, state: State | None) -> None:
        progress = self.progress
        self.records.saves.append((progress.step, progress.epoch, progress.batch))


@pytest.fixture
def make_trainer() -> Callable[..., tuple[Trainer, RecordingLogger]]:
    """Return ``make_trainer(valid_losses=..., batches=..., **settings)`` with a fixed model.

    The stream has 4 batches of 2 x 3 tokens; SGD with learning rate 0.1.
    """

    def make(
        valid_losses: list[float] | None = None,
        batches: Batches | None = None,
        schedule: ScheduleConfig | None = None,
        lr: float = 0.1,
        **changes: Any,
    ) -> tuple[Trainer, RecordingLogger]:
        model, progress, stop = FixedModel(), Progress(), StopSignal()
        records = RecordingLogger(progress)
        batches = batches or StreamBatches(ids_of(*[4, 5, 6, 7] * 6), 2, 3)
        task = ScriptedTask(batches, valid_losses or [])
        config = TrainerConfig(**{"epochs": 2, "log_every": 1, "clip_norm": None, **changes})
        optimizer = build_optimizer(model, SGDConfig(name="sgd", lr=lr))
        checkpoints = RecordingCheckpointWriter(
            Path(), {}, model, optimizer, progress, SINGLE_PROCESS
        )
        checkpoints.records = records
        total = count_total_steps(config, len(batches))
        validator = Validator(
            model, task, progress, checkpoints, records, stop, SINGLE_PROCESS, total
        )
        trainer = Trainer(
            validator,
            optimizer=optimizer,
            schedule=schedule or ScheduleConfig(name="constant"),
            config=config,
            device=CPU,
            bf16=False,
        )
        return trainer, records

    return make


def test_gpus_may_round_in_training(make_trainer: Make) -> None:
    trainer, _ = make_trainer(epochs=1)
    settings: list[tuple[bool, bool]] = []

    def record(number: int, nll: Tensor) -> Tensor:
        settings.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return nll

    trainer.model.on_call = record
    trainer.run()
    assert set(settings) == {(True, True)}


def test_runs_all_epochs(make_trainer: Make) -> None:
    trainer, records = make_trainer(epochs=3)
    trainer.run()
    assert trainer.is_done
    assert trainer.progress.step == trainer.total_steps == 12
    assert (trainer.progress.epoch, trainer.progress.batch) == (3, 0)
    assert records.validations == [4, 8, 12]
    assert records.saves == [(4, 1, 0), (8, 2, 0), (12, 3, 0)]


def test_the_state_is_carried_through_an_epoch(make_trainer: Make) -> None:
    trainer, _ = make_trainer(epochs=2)
    trainer.run()
    assert trainer.model.seen == [[0, 0], [3, 3], [6, 6], [9, 9]] * 2


def test_sentences_have_no_state(make_trainer: Make) -> None:
    batches = BucketedSentenceBatches(ids_of(*[4, 5, EOS_ID] * 6), 2, 100)
    trainer, _ = make_trainer(batches=batches, epochs=1)
    trainer.run()
    assert trainer.model.seen == [[0, 0]] * 3


def test_batches_continue_at_the_position_of_progress(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = make_trainer(epochs=3)
    trainer.progress.epoch, trainer.progress.batch, trainer.progress.step = 1, 2, 6
    positions: list[tuple[int, ...]] = []
    epoch = trainer.task.train_batches.epoch
    monkeypatch.setattr(
        trainer.task.train_batches, "epoch", lambda *at: (positions.append(at), epoch(*at))[1]
    )
    trainer.run()
    assert positions == [(1, 2), (2, 0)]


def test_gradients_stop_at_the_batch(make_trainer: Make) -> None:
    trainer, _ = make_trainer(epochs=1)
    trainer.run()
    assert trainer.state is None
    trainer, _ = make_trainer(max_steps=2)
    trainer.run()
    assert trainer.state is not None
    assert not any(part.requires_grad for part in trainer.state)


@pytest.mark.parametrize("max_steps, epoch, batch", [(3, 0, 3), (4, 1, 0), (6, 1, 2)])
def test_max_steps_end_a_run(make_trainer: Make, max_steps: int, epoch: int, batch: int) -> None:
    trainer, records = make_trainer(epochs=5, max_steps=max_steps)
    trainer.run()
    assert trainer.progress.step == trainer.total_steps == max_steps
    assert (trainer.progress.epoch, trainer.progress.batch) == (epoch, batch)
    assert records.validations[-1] == max_steps


def test_count_total_steps() -> None:
    for epochs, max_steps, expected in ((3, None, 12), (3, 5, 5), (1, 1000, 4)):
        config = TrainerConfig(epochs=epochs, max_steps=max_steps)
        assert count_total_steps(config, steps_per_epoch=4) == expected


@pytest.mark.parametrize("log_every", [1, 10])
def test_eval_every_comes_on_top_of_epoch_ends(make_trainer: Make, log_every: int) -> None:
    trainer, records = make_trainer(eval_every=3, log_every=log_every, epochs=3)
    trainer.run()
    assert records.validations == [3, 4, 6, 8, 9, 12]


def test_patience_stops_early(make_trainer: Make) -> None:
    losses = [5.0, 4.0, 4.5, 3.0, 3.5, 3.0, 1.0]
    trainer, records = make_trainer(valid_losses=losses, epochs=20, early_stopping_patience=2)
    trainer.run()
    # An equal loss is no improvement.
    assert records.validations == [4, 8, 12, 16, 20, 24]
    assert trainer.is_done
    assert (trainer.progress.best_cost, trainer.progress.best_step) == (3.0, 16)
    assert trainer.progress.validations_without_improvement == 2


def test_a_lower_loss_decides_between_equal_metrics(make_trainer: Make) -> None:
    """An accuracy that stays 0 for some time must not select the first, untrained model."""
    losses = [5.0, 4.0, 4.5, 3.0]
    trainer, _ = make_trainer(valid_losses=losses, epochs=4)
    task = trainer.task
    task.monitor = "accuracy"
    task.train_metrics = lambda loss: {"loss": loss, "perplexity": 1.0, "accuracy": 0.0}
    trainer.run()
    progress = trainer.progress
    assert (progress.best_cost, progress.loss_at_best, progress.best_step) == (0.0, 3.0, 16)
    trainer, _ = make_trainer(valid_losses=[5.0, math.nan], epochs=2)
    trainer.task.monitor = "accuracy"
    trainer.task.train_metrics = task.train_metrics
    with pytest.raises(TrainingError, match="valid loss is nan at step 8"):
        trainer.run()


def test_patience_stops_early_within_an_epoch(make_trainer: Make) -> None:
    trainer, records = make_trainer(
        valid_losses=[2.0, 3.0], eval_every=1, early_stopping_patience=1
    )
    trainer.run()
    assert records.validations == [1, 2]
    assert (trainer.progress.step, trainer.progress.batch) == (2, 2)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5])
def test_the_state_of_all_rows_from_processes_with_different_numbers_of_rows(num_rows: int) -> None:
    whole = torch.arange(2.0 * num_rows).view(num_rows, 2)
    parts = [[whole[rank::3]] if rank < num_rows else None for rank in range(3)]
    group = SimpleNamespace(world_size=3, gather=lambda part: parts)
    (state,) = gather_rows((whole[0::3],), group)  # type: ignore[arg-type, misc]
    assert torch.equal(state, whole)
    parts[:] = [None] * 3
    assert gather_rows(None, group) is None  # type: ignore[arg-type]


def test_without_patience_nothing_stops_early(make_trainer: Make) -> None:
    trainer, _ = make_trainer(valid_losses=[float(n) for n in range(9)], epochs=9)
    trainer.run()
    assert trainer.progress.step == 36
    assert trainer.progress.validations_without_improvement == 8


def test_an_infinite_perplexity_is_never_the_best(make_trainer: Make) -> None:
    trainer, records = make_trainer(valid_losses=[5000.0, 900.0, 800.0, 3.0, 750.0], epochs=5)
    trainer.run()
    assert records.validations == [4, 8, 12, 16, 20]
    assert records.best == [math.inf, math.inf, math.inf, 3.0, 3.0]
    assert (trainer.progress.best_cost, trainer.progress.best_step) == (3.0, 16)
    trainer, _ = make_trainer(
        valid_losses=[5000.0, 900.0, 800.0], epochs=20, early_stopping_patience=3
    )
    trainer.run()
    assert (trainer.progress.best_cost, trainer.progress.step) == (math.inf, 12)


@pytest.mark.parametrize("log_every", [1, 3, 10])
def test_the_sums_are_those_of_the_epoch(make_trainer: Make, log_every: int) -> None:
    """Train perplexity at each validation is that of the epoch alone: 24 tokens, falling."""
    trainer, records = make_trainer(epochs=3, log_every=log_every, lr=1.0)
    trainer.run()
    assert [tokens for tokens, _ in records.sums] == [24, 24, 24]
    assert records.sums[0][1] > records.sums[1][1] > records.sums[2][1]
    assert (trainer.progress.epoch_tokens, trainer.progress.epoch_nats) == (0, 0.0)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_valid_loss_that_is_not_finite_stops_the_run(make_trainer: Make, loss: float) -> None:
    trainer, _ = make_trainer(valid_losses=[3.0, loss], epochs=2)
    with pytest.raises(TrainingError, match=r"valid loss is .* at step 8"):
        trainer.run()
    assert (trainer.progress.best_cost, trainer.progress.best_step) == (3.0, 4)


def test_logged_losses_are_means_over_tokens(make_trainer: Make) -> None:
    """10 tokens in 2 columns of windows of 2: two batches of 4 and one of 2."""
    batches = StreamBatches(ids_of(*[4, 5, 6, 7, 4, 5, 6, 7, 4, 5]), 2, 2)
    trainer, records = make_trainer(batches=batches, epochs=1, log_every=10, lr=1e-9)
    costs = {1: 4.0, 2: 8.0, 3: 1.0}
    trainer.model.on_call = lambda number, nats: nats * 0 + costs[number]
    trainer.run()
    ((step, loss, lr, norm, speed),) = records.points
    assert (step, lr, norm) == (3, 1e-9, 0.0)
    assert loss == pytest.approx((4 * 4 + 4 * 8 + 2 * 1) / 10)
    assert speed > 0


@pytest.mark.parametrize("log_every, steps", [(1, [1, 2, 3, 4]), (3, [3, 4]), (100, [4])])
def test_log_every(make_trainer: Make, log_every: int, steps: list[int]) -> None:
    trainer, records = make_trainer(log_every=log_every, epochs=1)
    trainer.run()
    assert [point[0] for point in records.points] == steps


@pytest.mark.parametrize("num_ids", [24, 5], ids=["full", "padded"])
def test_the_step_equals_plain_sgd(make_trainer: Make, num_ids: int) -> None:
    """Gradient of the mean over the tokens of the batch; padding is ignored."""
    batches = StreamBatches(ids_of(*([4, 5, 6, 7] * 6)[:num_ids]), 2, 3)
    trainer, records = make_trainer(max_steps=1, batches=batches)
    table = trainer.model.log_table.detach().clone().requires_grad_()
    batch = next(iter(batches.epoch(0)))
    log_probs = table[batch.inputs].log_softmax(-1)
    picked = log_probs.gather(2, batch.targets[..., None])[..., 0]
    loss = -picked[batch.targets != PAD_ID].mean()
    (gradient,) = torch.autograd.grad(loss, table)
    trainer.run()
    torch.testing.assert_close(trainer.model.log_table.detach(), table - 0.1 * gradient)
    assert records.points[0][1] == pytest.approx(loss.item())
    assert records.points[0][3] == pytest.approx(gradient.norm().item())


def test_gradients_are_clipped_and_logged_before(make_trainer: Make) -> None:
    trainer, records = make_trainer(max_steps=1, clip_norm=0.01)
    before = trainer.model.log_table.detach().clone()
    trainer.run()
    moved = (trainer.model.log_table.detach() - before).norm().item()
    assert moved == pytest.approx(0.1 * 0.01, rel=1e-3)
    assert records.points[0][3] > 0.1


def test_the_rate_follows_the_schedule(make_trainer: Make) -> None:
    schedule = ScheduleConfig(name="constant", warmup_ratio=0.5, start_factor=0.1)
    trainer, records = make_trainer(schedule=schedule, epochs=2, lr=0.5)
    trainer.run()
    expected = [0.5 * learning_rate_factor(schedule, step, 8) for step in range(8)]
    assert [point[2] for point in records.points] == pytest.approx(expected)
    assert records.points[0][2] < records.points[7][2]


def test_the_rate_falls_at_a_plateau(make_trainer: Make) -> None:
    schedule = PlateauConfig(name="plateau", factor=0.5, patience=1)
    losses = [3.0, 2.0, 2.0, 2.0, 1.0]
    trainer, records = make_trainer(schedule=schedule, valid_losses=losses, epochs=5, lr=0.2)
    trainer.run()
    rates = [point[2] for point in records.points]
    assert rates == pytest.approx([0.2] * 16 + [0.1] * 4)
    assert trainer.optimizer.defaults["lr"] == 0.2


def test_the_best_model_has_the_plateau_after_its_validation(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = PlateauConfig(name="plateau", patience=1)
    trainer, _ = make_trainer(schedule=schedule, valid_losses=[3.0, 3.5, 2.0], epochs=3)
    plateau, saved = trainer.progress.plateau, []
    monkeypatch.setattr(
        trainer.checkpoints,
        "save_best",
        lambda: saved.append(plateau.validations_without_improvement),
    )
    trainer.run()
    assert saved == [0, 0]


@pytest.mark.parametrize("log_every", [1, 1000])
def test_checkpoints_within_an_epoch(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, log_every: int
) -> None:
    """Each step takes a minute of the patched clock."""
    batches = StreamBatches(ids_of(*[4] * 11), 1, 1)
    trainer, records = make_trainer(
        batches=batches, epochs=1, checkpoint_every_minutes=3.5, log_every=log_every
    )
    monkeypatch.setattr(time, "monotonic", lambda: 60.0 * trainer.progress.step)
    trainer.run()
    assert records.saves == [(4, 0, 4), (8, 0, 8), (11, 1, 0)]


@pytest.mark.parametrize("is_shown", [False, True])
def test_samples_are_made_if_they_are_shown(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, is_shown: bool
) -> None:
    trainer, records = make_trainer(epochs=1)
    monkeypatch.setattr(type(records), "shows_samples", is_shown)
    made: list[str] = []
    for name in ("samples", "images"):
        monkeypatch.setattr(trainer.task, name, lambda model, name=name: made.append(name) or {})
    trainer.run()
    assert made == (["samples", "images"] if is_shown else [])


# --- errors ---------------------------------------------------------------------------------------


def scale_loss(at: int, value: float) -> Callable[[int, Tensor], Tensor]:
    return lambda number, nats: nats * value if number == at else nats


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("log_every", [1, 10])
@pytest.mark.parametrize(
    "at, where", [(3, r"step 3 \(epoch 1, batch 3\)"), (6, r"step 6 \(epoch 2, batch 2\)")]
)
def test_a_loss_that_is_not_finite_stops(
    make_trainer: Make, value: float, log_every: int, at: int, where: str
) -> None:
    trainer, records = make_trainer(log_every=log_every)
    trainer.model.on_call = scale_loss(at, value)
    with pytest.raises(TrainingError, match=rf"^the loss is not finite at {where}: .*") as caught:
        trainer.run()
    assert len(str(caught.value).splitlines()) == 1
    # Neither saved nor validated nor logged.
    assert all(step < at for step, _, _ in records.saves)
    assert all(step < at for step in records.validations)
    assert all(math.isfinite(point[1]) for point in records.points)


def test_a_gradient_that_is_not_finite_stops(make_trainer: Make) -> None:
    trainer, _ = make_trainer()

    def steep(number: int, nats: Tensor) -> Tensor:
        if number != 2:
            return nats
        zero = nats - nats.detach()
        return nats + torch.sqrt(zero.clamp(min=0))  # finite, with an infinite slope at 0

    trainer.model.on_call = steep
    with pytest.raises(TrainingError, match=r"^the gradient is not finite at step 2 \(epoch 1"):
        trainer.run()


def test_a_bad_loss_is_not_saved_when_the_user_stops(make_trainer: Make) -> None:
    trainer, records = make_trainer(log_every=100)

    def request_stop(number: int, nats: Tensor) -> Tensor:
        trainer.stop.stop_requested = number == 3
        return nats * (math.inf if number == 2 else 1.0)

    trainer.model.on_call = request_stop
    with pytest.raises(TrainingError, match="step 2"):
        trainer.run()
    assert records.saves == []


@pytest.mark.parametrize("log_every", [1, 100])
def test_a_stop_takes_effect_after_the_step(make_trainer: Make, log_every: int) -> None:
    trainer, records = make_trainer(log_every=log_every)

    def request_stop(number: int, nats: Tensor) -> Tensor:
        trainer.stop.stop_requested |= number == 3
        return nats

    trainer.model.on_call = request_stop
    with pytest.raises(TrainingInterrupted):
        trainer.run()
    progress = trainer.progress
    assert (progress.step, progress.batch, progress.epoch_tokens) == (3, 3, 18)
    assert progress.epoch_nats > 0
    assert records.points[-1][0] == 3
    assert records.validations == []


def test_a_stopped_run_resumes_with_its_validation(make_trainer: Make) -> None:
    """Stopped after the last step of an epoch, before valid was measured."""
    trainer, records = make_trainer(epochs=2)

    def request_stop(number: int, nats: Tensor) -> Tensor:
        trainer.stop.stop_requested = number == 4
        return nats

    trainer.model.on_call = request_stop
    with pytest.raises(TrainingInterrupted):
        trainer.run()
    assert records.validations == []
    trainer.stop.stop_requested = False
    trainer.run()
    assert records.validations == [4, 8]
    assert trainer.model.seen == [[0, 0], [3, 3], [6, 6], [9, 9]] * 2


def test_a_finished_run_has_nothing_to_do(make_trainer: Make) -> None:
    trainer, records = make_trainer()
    trainer.run()
    before = dataclasses.astuple(trainer.progress), list(records.points), list(records.validations)
    trainer.run()
    assert before == (dataclasses.astuple(trainer.progress), records.points, records.validations)


# --- signals -------------------------------------------------------------------------------------

SIGNALS = [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)]


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_requests_a_stop(number: int) -> None:
    with StopSignal() as stop:
        stop.check()
        assert not stop.stop_requested
        os.kill(os.getpid(), number)
        assert stop.stop_requested
        with pytest.raises(TrainingInterrupted):
            stop.check()


def test_a_second_interrupt_takes_effect_immediately() -> None:
    with StopSignal() as stop, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.stop_requested
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_sigterm_has_no_effect() -> None:
    """Clusters send SIGTERM more than once before they kill."""
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.stop_requested


@pytest.mark.parametrize("fails", [False, True])
def test_handlers_are_restored(fails: bool) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with StopSignal():
            assert [signal.getsignal(number) for number in SIGNALS] != before
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_threads_do_not_handle_signals() -> None:
    """Only the main thread may set handlers; a sweep may run jobs in others."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with StopSignal() as stop:
                stop.check()
        except BaseException as error:
            errors.append(error)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []
    assert signal.getsignal(signal.SIGINT) == before


# --- progress and precision ----------------------------------------------------------------------


def test_progress_round_trip() -> None:
    progress = Progress(step=7, epoch=2, batch=3, best_cost=1.5, best_step=6, validated_step=6)
    progress.plateau.factor, progress.plateau.validations_without_improvement = 0.25, 1
    state = progress.state_dict()
    assert state["plateau"] == {"factor": 0.25, "validations_without_improvement": 1}
    assert Progress.from_state_dict(state) == progress
    # Checkpoints of earlier versions.
    state["best_loss"] = state.pop("best_cost")
    for part in (state, state["plateau"]):
        part["bad_validations"] = part.pop("validations_without_improvement")
    assert Progress.from_state_dict(state) == progress


@pytest.mark.parametrize("bf16", [False, True])
def test_autocast(bf16: bool) -> None:
    with autocast(CPU, bf16):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype is (torch.bfloat16 if bf16 else torch.float32)
