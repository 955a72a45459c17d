"""The command of a cluster's job: signals that reach it at any time."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from korlm.sweeps.launchers import submitit_job
from korlm.sweeps.launchers.submitit_job import JobCommand

LIMIT = signal.SIGUSR2


@pytest.fixture
def requeued(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Replace submitit: a single process, whose job is queued again by appending to a list."""
    pytest.importorskip("submitit")
    job = SimpleNamespace(_usr_sig=lambda: LIMIT, global_rank=0, num_tasks=1)
    monkeypatch.setattr(submitit_job, "JobEnvironment", lambda: job)
    calls: list[int] = []
    old = {number: signal.getsignal(number) for number in (LIMIT, signal.SIGTERM)}
    signal.signal(LIMIT, lambda number, frame: calls.append(number))
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    yield calls
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("trap", ["true", "trap 'kill -INT $$' TERM"], ids=["term", "int"])
@pytest.mark.parametrize(("name", "is_requeued"), [("USR2", True), ("TERM", False)])
def test_a_signal_before_the_command_handles_signals(
    name: str, is_requeued: bool, trap: str, requeued: list[int], tmp_path: Path
) -> None:
    # The shell dies of the SIGTERM that it gets, or of SIGINT as Python may; it repeats its signal,
    # since the first may be sent before this process handles it.
    command = ("sh", "-c", f"{trap}; while sleep 0.05; do kill -{name} $PPID; done")
    with pytest.raises(SystemExit) as exit_code:
        JobCommand(command, tmp_path, {})()
    assert exit_code.value.code == submitit_job.INTERRUPTED
    assert requeued == [LIMIT] * is_requeued


def test_the_exit_code(requeued: list[int], tmp_path: Path) -> None:
    assert JobCommand(("sh", "-c", "exit 3"), tmp_path, {})() == 3
    assert requeued == []


def test_a_job_that_cannot_be_queued_again(requeued: list[int], tmp_path: Path) -> None:
    def fail(number: int, frame: object) -> None:
        raise subprocess.CalledProcessError(1, ["scontrol", "requeue", "77"])

    signal.signal(LIMIT, fail)
    command = ("sh", "-c", "while sleep 0.05; do kill -USR2 $PPID; done")
    with pytest.raises(SystemExit) as exit_code:
        JobCommand(command, tmp_path, {})()
    assert exit_code.value.code == submitit_job.INTERRUPTED
    assert "scontrol" in (tmp_path / "failed.txt").read_text("utf-8")


@pytest.mark.parametrize(("is_requeued", "code"), [(False, 0), (True, 1)])
def test_a_failure_before_a_node_failed_is_not_that_of_this_run(
    is_requeued: bool,
    code: int,
    requeued: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "failed.txt").write_text("lost the connection to rank 1\n", "utf-8")
    submitit_job.JobEnvironment().global_rank = 1
    monkeypatch.setattr(submitit_job, "FAILURE_FILE_SECONDS", 0.0)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    if is_requeued:
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(SystemExit) as exit_code:
        JobCommand(("sh", "-c", "exit 3"), tmp_path, {})()
    assert exit_code.value.code == code
