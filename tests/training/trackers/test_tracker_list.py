"""Forwarding to several trackers, and what becomes of one that fails."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import break_off, finish, make_settings, resume, start, stop_after

from korlm.config import TrackerName
from korlm.dataset.prepared import Prepared
from korlm.training.session import TrainingSession
from korlm.training.trackers import tracker_list
from korlm.training.trackers.base import (
    RunStatus,
    Splits,
    Tracker,
    read_id,
    write_id,
)
from korlm.training.trackers.tracker_list import TrackerList
from korlm.utils.errors import ConfigError, MissingPackageError, TrainingError, install_command
from korlm.utils.packages import check_installed


class Recorder(Tracker):
    """Records its calls; fails at the call of a given name."""

    name = "recorder"
    shows_samples = True

    def __init__(self, fails_at: str = "", fails_after: int = 0) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails_at, self.fails_after = fails_at, fails_after
        self.num_failures = 0

    def _add(self, method: str, *arguments: Any) -> None:
        if method == self.fails_at and len(self.calls) >= self.fails_after:
            self.num_failures += 1
            raise ConnectionError("the server\nis away")
        self.calls.append((method, *arguments))

    def start(self) -> None:
        self._add("start")

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._add("scalars", step, dict(scalars))

    def flush(self) -> None:
        self._add("flush")

    def log_samples(self, step: int, texts: Mapping[str, str]) -> None:
        self._add("samples", step, dict(texts))

    def log_images(self, step: int, images: Mapping[str, Any]) -> None:
        self._add("images", step, dict(images))

    def log_result(self, step: int, settings: Mapping[str, Any], splits: Splits) -> None:
        self._add("result", step, settings, splits)

    def close(self, status: RunStatus = RunStatus.finished) -> None:
        self._add("close", status)


def use_all(tracker: Tracker) -> None:
    tracker.start()
    tracker.log_scalars(1, {"loss/train": 2.0})
    tracker.flush()
    tracker.log_samples(1, {"samples": "나는"})
    tracker.log_images(1, {})
    tracker.log_result(1, {"seed": 1}, {"valid": {"loss": 3.0}})
    tracker.close(RunStatus.interrupted)
    tracker.close()


CALLS = [
    ("start",),
    ("scalars", 1, {"loss/train": 2.0}),
    ("flush",),
    ("samples", 1, {"samples": "나는"}),
    ("images", 1, {}),
    ("result", 1, {"seed": 1}, {"valid": {"loss": 3.0}}),
    ("close", RunStatus.interrupted),
]


def test_every_call_goes_to_all_and_the_end_is_told_once() -> None:
    one, two = Recorder(), Recorder()
    use_all(TrackerList([one, two]))
    assert one.calls == two.calls == CALLS


def test_no_trackers() -> None:
    use_all(TrackerList())
    use_all(Tracker())


def test_samples_are_shown_if_a_tracker_shows_them() -> None:
    assert TrackerList([Tracker(), Recorder()]).shows_samples
    assert not TrackerList([Tracker()]).shows_samples


def test_no_samples_for_a_tracker_that_has_failed() -> None:
    trackers = TrackerList([Recorder("flush")])
    trackers.flush()
    assert not trackers.shows_samples


@pytest.mark.parametrize("method", ["scalars", "flush", "samples", "images", "result", "close"])
def test_a_failing_tracker_is_dropped_with_one_warning(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Recorder(method), Recorder()
    use_all(TrackerList([bad, good]))
    assert good.calls == CALLS
    closed = [] if method == "close" else [("close", RunStatus.failed)]
    assert bad.calls == CALLS[: [call[0] for call in CALLS].index(method)] + closed
    assert bad.num_failures == 1
    (warning,) = caplog.records
    assert warning.getMessage() == (
        "trainer.tracker=recorder: failed (ConnectionError: the server is away); nothing "
        "more is recorded there"
    )


def test_a_tracker_that_cannot_start_is_an_error() -> None:
    with pytest.raises(TrainingError) as caught:
        TrackerList([Recorder("start")]).start()
    assert str(caught.value) == (
        "trainer.tracker=recorder: cannot record (ConnectionError: the server is away); correct "
        "this, or leave recorder out of trainer.tracker"
    )


def test_a_long_reason_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    class Talkative(Tracker):
        name = "talkative"

        def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
            raise ValueError("advice " * 200)

    TrackerList([Talkative()]).log_scalars(1, {})
    assert len(caplog.records[0].getMessage()) < 400


def test_ids_are_kept_per_tracker(tmp_path: Path) -> None:
    assert read_id(tmp_path, "mlflow") is None
    write_id(tmp_path, "mlflow", "a1")
    write_id(tmp_path, "wandb", "b2")
    assert (read_id(tmp_path, "mlflow"), read_id(tmp_path, "wandb")) == ("a1", "b2")


@pytest.mark.parametrize("content", ["", "[]", '{"mlflow": 1}', '{"mlflow": "../a"}', "\xff"])
def test_damaged_ids_are_ignored(content: str, tmp_path: Path) -> None:
    (tmp_path / "tracker_ids.json").write_text(content, encoding="latin-1")
    assert read_id(tmp_path, "mlflow") is None
    write_id(tmp_path, "mlflow", "a1")
    assert read_id(tmp_path, "mlflow") == "a1"


def test_a_missing_package_is_one_line() -> None:
    with pytest.raises(MissingPackageError) as caught:
        check_installed("no_such_package", "trainer.tracker=no_such_package")
    message = str(caught.value)
    assert message.startswith("trainer.tracker=no_such_package: no_such_package is not installed: ")
    assert message.endswith(install_command("no_such_package"))


# --- in a training ---


def use(run: TrainingSession, tracker: Tracker) -> None:
    """Let a run record in a tracker."""
    trackers = TrackerList([tracker])
    run.tracker = run.validator.tracker = trackers
    assert run.trainer is not None
    run.trainer.tracker = trackers


def test_a_run_is_recorded_from_start_to_end(prepared: Prepared, tmp_path: Path) -> None:
    run, recorder = start(make_settings(prepared), prepared, tmp_path), Recorder()
    use(run, recorder)
    splits = run.fit()
    names = [call[0] for call in recorder.calls]
    assert names[0] == "start" and names[-2:] == ["result", "close"]
    assert recorder.calls[-1] == ("close", RunStatus.finished)
    assert recorder.calls[-2] == ("result", run.total_steps, run.config, splits)
    scalars = [call[1:] for call in recorder.calls if call[0] == "scalars"]
    steps = [step for step, logged in scalars if "loss/valid" not in logged]
    assert steps == [*range(1, run.total_steps + 1), run.total_steps]


def test_the_last_line_names_what_is_there(
    prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow writes ``mlruns``; a tracker that records elsewhere leaves nothing."""

    class Files(Recorder):
        def start(self) -> None:
            (tmp_path / "mlruns").mkdir()

    run = start(make_settings(prepared), prepared, tmp_path)
    use(run, Files())
    with caplog.at_level("INFO"):
        run.fit()
    assert caplog.messages[-1] == f"{tmp_path}: metrics.json, checkpoints, mlruns"


def test_an_interrupted_run(prepared: Prepared, tmp_path: Path) -> None:
    run, recorder = start(make_settings(prepared), prepared, tmp_path), Recorder()
    use(run, recorder)
    stop_after(run, 3)
    break_off(run)
    assert recorder.calls[-1] == ("close", RunStatus.interrupted)
    resumed, recorder = resume(prepared, tmp_path), Recorder()
    use(resumed, recorder)
    resumed.fit()
    assert recorder.calls[1][:2] == ("scalars", 4)
    assert recorder.calls[-1] == ("close", RunStatus.finished)


def test_a_failed_run(prepared: Prepared, tmp_path: Path) -> None:
    run, recorder = start(make_settings(prepared), prepared, tmp_path), Recorder()
    use(run, recorder)

    def fail(*arguments: object) -> None:
        raise TrainingError("it has diverged")

    run.checkpoints.optimizer.register_step_post_hook(fail)
    with pytest.raises(TrainingError, match="diverged"):
        run.fit()
    assert recorder.calls[-1] == ("close", RunStatus.failed)


def test_training_goes_on_without_a_tracker_that_fails(
    prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = start(make_settings(prepared), prepared, tmp_path)
    use(run, Recorder("scalars", fails_after=3))
    with caplog.at_level(logging.WARNING, "korlm.training.trackers"):
        run.fit()
    assert json.loads((tmp_path / "metrics.json").read_text())["valid"]["loss"] > 0
    warnings = [r for r in caplog.records if r.name.startswith("korlm.training.trackers")]
    assert len(warnings) == 1


def test_trackers_change_no_number(prepared: Prepared, tmp_path: Path) -> None:
    with_one = finish(make_settings(prepared), prepared, tmp_path / "a")
    settings = make_settings(prepared, trainer={"tracker": []})
    without = finish(settings, prepared, tmp_path / "b")
    assert with_one.splits["valid"]["loss"] == without.splits["valid"]["loss"]
    assert (tmp_path / "a" / "tensorboard").is_dir()
    assert not (tmp_path / "b" / "tensorboard").exists()


def test_build_trackers(tmp_path: Path) -> None:
    trackers = tracker_list.build_trackers(list(TrackerName), tmp_path / "run", {})
    names = [tracker.name for tracker in trackers._trackers]
    assert names == ["tensorboard", "mlflow", "wandb"]
    assert not (tmp_path / "run").exists()


def test_a_tracker_named_twice(prepared: Prepared) -> None:
    with pytest.raises(ConfigError, match=r"trainer.tracker=\[mlflow,mlflow\]: name each"):
        make_settings(prepared, trainer={"tracker": [TrackerName.mlflow] * 2})
