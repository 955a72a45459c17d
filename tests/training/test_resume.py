"""A resumed run equals an uninterrupted one, bit for bit."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import (
    BUSY_MODEL,
    OPTIMIZERS,
    Finished,
    Splits,
    assert_equal,
    break_off,
    comparable,
    finish,
    make_settings,
    resume,
    start,
    stop_after,
    train_until,
)

from korlm.config import (
    DecayConfig,
    InitialState,
    LSTMConfig,
    Mode,
    NeuralConfig,
    PlateauConfig,
    SGDConfig,
    SubwordMode,
    TrainSettings,
    TransformerConfig,
    WindowConfig,
)
from korlm.dataset.batches import Batch
from korlm.dataset.prepared import Prepared
from korlm.models.registry import build_model
from korlm.runs.checkpoint import load_checkpoint, save_checkpoint, settings_of
from korlm.tasks.language_modeling import sum_losses
from korlm.training.session import TrainingSession
from korlm.utils.errors import CheckpointError, PreparedError


@pytest.fixture(scope="module", params=list(Mode), ids=lambda mode: mode.value)
def unbroken(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, prepared: Prepared
) -> Finished:
    """Return a run with dropout, momentum, a schedule and validations within epochs."""
    settings = make_settings(
        prepared,
        trainer={"epochs": 2, "eval_every": 4, "sample_tokens": 3},
        mode=request.param,
        model=BUSY_MODEL,
        schedule=DecayConfig(name="one_cycle", warmup_ratio=0.25),
    )
    return finish(settings, prepared, tmp_path_factory.mktemp("unbroken"))


@pytest.fixture(autouse=True)
def no_signals(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SIGTERM end pytest, unless the test is about signals.

    A run stops at it: the time limit of a slow test session would stop the current
    test's run at the wrong step, and only that test would fail.
    """
    if request.node.name != "test_a_real_interrupt":
        monkeypatch.setattr("korlm.training.stop.stop_signals", lambda: [])


def assert_same_end(session: TrainingSession, splits: Splits, expected: Finished) -> None:
    """Check weights, optimizer state, random states, progress and metrics for equality."""
    assert comparable(splits) == comparable(expected.splits)
    for name in ("last.pt", "best.pt"):
        mine = load_checkpoint(session.checkpoints.folder / name)
        theirs = load_checkpoint(expected.run.folder / "checkpoints" / name)
        for checkpoint in (mine, theirs):
            checkpoint["progress"].pop("seconds")
        assert_equal(mine, theirs, name)


def check_resumed(
    settings: TrainSettings, prepared: Prepared, folder: Path, step: int
) -> tuple[TrainingSession, Finished]:
    """Check that a run that was stopped after a step ends like an unbroken one; return both."""
    expected = finish(settings, prepared, folder / "whole")
    train_until(settings, prepared, folder / "broken", step)
    resumed = resume(prepared, folder / "broken")
    assert_same_end(resumed, resumed.fit(), expected)
    return resumed, expected


# Valid is measured at each 4th step and at the end of each epoch, which has 9 or 10 steps.
@pytest.mark.parametrize("where", [3, 4, "epoch", "epoch + 1", "last"], ids=str)
def test_stopped_after_a_step_and_resumed(
    unbroken: Finished, prepared: Prepared, tmp_path: Path, where: Any
) -> None:
    per_epoch, total = unbroken.steps_per_epoch, unbroken.run.total_steps
    steps = {"epoch": per_epoch, "epoch + 1": per_epoch + 1, "last": total}
    step = steps.get(where, where)
    run = start(unbroken.run.settings, prepared, tmp_path)
    stop_after(run, step)
    message = break_off(run)
    assert message.startswith(f"stopped at step {step} of {total};")
    torch.rand(17)  # a new process has other random states
    resumed = resume(prepared, tmp_path)
    assert resumed.progress.step == step
    assert_same_end(resumed, resumed.fit(), unbroken)


@pytest.mark.parametrize(("nth", "batch"), [(1, 0), (3, 1), (-1, 1)])
def test_stopped_during_a_validation_and_resumed(
    unbroken: Finished, prepared: Prepared, tmp_path: Path, nth: int, batch: int
) -> None:
    run = start(unbroken.run.settings, prepared, tmp_path)
    valid, passes = run.task.eval_batches["valid"], 0
    total = run.total_steps
    due = [s for s in range(1, total + 1) if s % 4 == 0 or s % unbroken.steps_per_epoch == 0]
    step = due[nth - 1] if nth > 0 else total
    epoch = valid.epoch

    def request_stop(*arguments: int) -> Iterator[Batch]:
        nonlocal passes
        passes += 1
        for number, part in enumerate(epoch(*arguments)):
            if run.progress.step == step and number == batch:
                run.stop.stop_requested = True
            yield part

    valid.epoch = request_stop  # type: ignore[method-assign]
    break_off(run)
    assert passes == (nth if nth > 0 else len(due))
    resumed = resume(prepared, tmp_path)
    assert resumed.progress.validated_step < resumed.progress.step == step
    assert_same_end(resumed, resumed.fit(), unbroken)


def test_stopped_during_the_last_figures_and_resumed(
    unbroken: Finished, prepared: Prepared, tmp_path: Path
) -> None:
    run = start(unbroken.run.settings, prepared, tmp_path)
    epoch = run.task.eval_batches["test"].epoch

    def request_stop(*arguments: int) -> Iterator[Batch]:
        run.stop.stop_requested = True
        return epoch(*arguments)

    run.task.eval_batches["test"].epoch = request_stop  # type: ignore[method-assign]
    break_off(run)
    resumed = resume(prepared, tmp_path)
    assert resumed.progress.step == resumed.total_steps
    assert_same_end(resumed, resumed.fit(), unbroken)


def test_stopped_again_and_again(unbroken: Finished, prepared: Prepared, tmp_path: Path) -> None:
    run = start(unbroken.run.settings, prepared, tmp_path)
    for step in (2, 5, unbroken.steps_per_epoch + 2):
        stop_after(run, step)
        break_off(run)
        run = resume(prepared, tmp_path)
    assert_same_end(run, run.fit(), unbroken)


def test_stopped_between_two_reports(prepared: Prepared, tmp_path: Path) -> None:
    settings = make_settings(prepared, trainer={"log_every": 5}, model=BUSY_MODEL)
    check_resumed(settings, prepared, tmp_path, 7)


class Crash(Exception):  # noqa: N818
    """Power cut."""


@pytest.mark.parametrize("minutes", [1e9, 1e-9], ids=["epoch_ends", "every_step"])
def test_crashed_and_resumed(
    unbroken: Finished,
    prepared: Prepared,
    tmp_path: Path,
    minutes: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """last.pt is complete, though the session continued after it."""
    settings = dataclasses.replace(
        unbroken.run.settings,
        trainer=dataclasses.replace(
            unbroken.run.settings.trainer, checkpoint_every_minutes=minutes
        ),
    )
    run = start(settings, prepared, tmp_path)
    crash_at = unbroken.steps_per_epoch + 3

    def hook(*arguments: object) -> None:
        if run.progress.step + 1 == crash_at:
            raise Crash

    run.checkpoints.optimizer.register_step_post_hook(hook)
    with pytest.raises(Crash):
        run.fit()
    # Event files are read in the order of the seconds in their names.
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 10)
    resumed = resume(prepared, tmp_path, trainer=unbroken.run.settings.trainer)
    assert resumed.progress.step == (crash_at - 1 if minutes < 1 else unbroken.steps_per_epoch)
    assert_same_end(resumed, resumed.fit(), unbroken)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    drawn = [event.step for event in events.Reload().Scalars("loss/train")]
    assert drawn == list(range(1, unbroken.run.total_steps + 1))


def test_the_state_of_the_plateau_schedule(prepared: Prepared, tmp_path: Path) -> None:
    """With a learning rate far too high it is reduced several times."""
    settings = make_settings(
        prepared,
        trainer={"epochs": 4, "eval_every": 2},
        optimizer=SGDConfig(name="sgd", lr=30.0, momentum=0.9),
        schedule=PlateauConfig(name="plateau", factor=0.5, patience=1),
    )
    expected = finish(settings, prepared, tmp_path / "whole")
    assert expected.run.progress.plateau.factor < 0.5
    train_until(settings, prepared, tmp_path / "broken", 15)
    resumed = resume(prepared, tmp_path / "broken")
    assert resumed.progress.plateau.factor < 1
    assert_same_end(resumed, resumed.fit(), expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_resumes(prepared: Prepared, tmp_path: Path, optimizer: str) -> None:
    model = LSTMConfig("lstm", 8, 12, num_layers=1, initial_state=InitialState.learned)
    settings = make_settings(prepared, optimizer=OPTIMIZERS[optimizer], model=model)
    check_resumed(settings, prepared, tmp_path, 5)


SPELT: dict[str, Any] = {"embedding_dim": 8, "hidden_dim": 8, "subword_embedding": SubwordMode.both}


@pytest.mark.parametrize(
    "model",
    [
        LSTMConfig(name="lstm", num_layers=1, **SPELT),
        WindowConfig(name="window", input_dropout=0.1, **SPELT),
        TransformerConfig(name="transformer", input_dropout=0.1, num_heads=2, window=9, **SPELT),
    ],
    ids=lambda model: model.name,
)
def test_models_with_subword_embeddings_resume(
    prepared: Prepared, tmp_path: Path, model: NeuralConfig
) -> None:
    """Their subwords come from the vocabulary, which is in the checkpoint."""
    settings = make_settings(prepared, model=model)
    resumed, expected = check_resumed(settings, prepared, tmp_path, 5)
    best = load_checkpoint(resumed.checkpoints.folder / "best.pt")
    restored = build_model(model, len(best["vocab"]["tokens"]), best["vocab"]["tokens"])
    restored.load_state_dict(best["model"])
    loss = sum_losses(restored, resumed.task.eval_batches["valid"], resumed.device).loss
    assert loss == expected.splits["valid"]["loss"]


def test_a_real_interrupt(prepared: Prepared, tmp_path: Path) -> None:
    run = start(make_settings(prepared), prepared, tmp_path)
    before = signal.getsignal(signal.SIGINT)

    def hook(*arguments: object) -> None:
        if run.progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    run.checkpoints.optimizer.register_step_post_hook(hook)
    assert break_off(run).startswith("stopped at step 3 of ")
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt")["progress"]["step"] == 3
    assert signal.getsignal(signal.SIGINT) == before


def test_a_finished_run_can_be_given_more_epochs(prepared: Prepared, tmp_path: Path) -> None:
    settings = make_settings(prepared, trainer={"epochs": 1})
    run = start(settings, prepared, tmp_path)
    run.fit()
    longer = dataclasses.replace(settings.trainer, epochs=2)
    resumed = resume(prepared, tmp_path, trainer=longer)
    resumed.fit()
    assert resumed.progress.step == 2 * run.progress.step
    assert resumed.progress.epoch == 2


def test_from_the_best_model_where_last_is_damaged(
    prepared: Prepared, tmp_path: Path, korlm: Command
) -> None:
    """The message has the command."""
    settings = make_settings(prepared, trainer={"eval_every": 4}, outputs=str(tmp_path))
    run = train_until(settings, prepared, tmp_path / "run", 7)
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    command = f"resume={tmp_path / 'run'} resume_from=best"
    error = korlm("train", f"resume={tmp_path / 'run'}").error
    assert "last.pt: damaged" in error and error.endswith(f"python -m korlm.train {command}")
    ended = korlm("train", *command.split())
    assert ended.code == 0, ended.err
    assert "resuming from the best model, of step 4, with a new optimizer state" in ended.out
    assert load_checkpoint(last)["progress"]["step"] == run.total_steps
    assert (tmp_path / "run" / "metrics.json").is_file()
    # Step 4 is not validated again, and does not count against patience.
    assert "  step 8  " in ended.out and "  step 4  " not in ended.out


def test_other_text_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    train_until(make_settings(prepared), prepared, tmp_path, 1)
    other = dataclasses.replace(prepared, fingerprint="0123456789ab")
    with pytest.raises(PreparedError, match="0123456789ab") as caught:
        resume(other, tmp_path)
    message = str(caught.value)
    assert prepared.fingerprint in message
    assert len(message.splitlines()) == 1


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "model": lambda checkpoint: checkpoint["model"].update({"output.bias": torch.zeros(3)}),
    "optimizer": lambda checkpoint: checkpoint.update(optimizer=None),
    "progress": lambda checkpoint: checkpoint["progress"].update(unknown_key=1),
    "rng": lambda checkpoint: checkpoint.pop("rng"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_does_not_match_its_settings(
    prepared: Prepared, tmp_path: Path, damage: str
) -> None:
    train_until(make_settings(prepared), prepared, tmp_path, 1)
    path = tmp_path / "checkpoints" / "last.pt"
    checkpoint = load_checkpoint(path)
    DAMAGES[damage](checkpoint)
    save_checkpoint(path, checkpoint)
    with pytest.raises(
        CheckpointError, match=r"last\.pt: does not match its own settings"
    ) as caught:
        resume(prepared, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"^x/last\.pt: unknown setting unknown_key"):
        settings_of({"config": {"model": {}, "unknown_key": 1}}, Path("x/last.pt"))
    with pytest.raises(CheckpointError):
        settings_of({"config": "text"}, Path("x/last.pt"))
