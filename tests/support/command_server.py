"""Run commands in processes forked from one that has imported everything.

Importing PyTorch takes as long as a tiny run; tests that need many processes, for instance to kill
them, import it once. A child runs the ``main`` of the command and is not protected from its death.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Changes to the file system, as far as Python makes them itself.
CHANGES = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.truncate"}


@dataclass(frozen=True)
class Ended:
    """The result of a command."""

    code: int
    changes: list[str]
    seconds: float
    out: str
    err: str


class CommandServer:
    """Runs commands; a context manager that ends all its processes."""

    def __enter__(self) -> CommandServer:
        self._folder = tempfile.TemporaryDirectory()
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"},
            text=True,
        )
        return self

    def __exit__(self, *error: object) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()
        self._folder.cleanup()

    def run(self, folder: Path, command: str, *overrides: str, **options: Any) -> Ended:
        """Run a command to its end or until it is killed.

        Args:
            folder: the working directory.
            command: such as train.
            overrides: its arguments.
            options: when a signal is sent to it, one of ``change``: before this change to the file
                system (from 0); ``after``: these seconds; ``when``: as soon as this glob below
                the folder matches ``count`` files (default 1). ``number``: the signal, SIGKILL by
                default. ``clock``: seconds by which its clock is wrong, jumping back and forth.
                ``unheard``: its stdout is closed, as by ``| head -1``.
        """
        (ended,) = self.together(folder, [[command, *overrides]], **options)
        return ended

    def together(self, folder: Path, commands: list[list[str]], **options: Any) -> list[Ended]:
        """Run commands at the same time; for the arguments see ``run``."""
        folder.mkdir(exist_ok=True)
        paths = [f"{self._folder.name}/{number}" for number in range(len(commands))]
        jobs = [
            {"folder": str(folder), "log_path": path, "argv": argv, **options}
            for path, argv in zip(paths, commands, strict=True)
        ]
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(jobs) + "\n")
        self._server.stdin.flush()
        ends = json.loads(self._server.stdout.readline())
        results = []
        for path, (code, seconds) in zip(paths, ends, strict=True):
            changes, out, err = (
                Path(f"{path}-{name}").read_text("utf-8", "replace")
                for name in ("changes", "out", "err")
            )
            results.append(Ended(code, changes.splitlines(), seconds, out, err))
        return results


def _watch(folder: Path, change: int | None, log: int) -> None:
    """Log every change below a folder, and kill this process before one of them."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        path = os.fsdecode(path)
        if not Path(os.path.abspath(path)).is_relative_to(folder):
            return
        if count == change:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        os.write(log, f"{event} {os.path.relpath(path, folder)}\n".encode())

    sys.addaudithook(hook)


def _set_clock(wrong: float) -> None:
    """Make the wall clock jump; the monotonic clock is unchanged."""
    real, calls = time.time, itertools.count()
    if wrong:
        time.time = lambda: real() + (wrong if next(calls) % 40 < 20 else -wrong)


def _run(job: dict[str, Any]) -> None:
    """Run a command in this process and end it."""
    folder = Path(job["folder"])
    os.chdir(folder)
    sys.path[0] = job["folder"]  # as python -m
    command, *overrides = job["argv"]
    fresh = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{job['log_path']}-{name}", fresh), number)
    log = os.open(f"{job['log_path']}-changes", fresh)
    sys.argv = [command, *overrides]
    if job.get("unheard"):
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    _set_clock(job.get("clock", 0.0))
    main = importlib.import_module(f"korlm.{command}").main
    _watch(folder, job.get("change"), log)
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(str(code or 0)))


def _serve() -> None:
    """Run jobs until stdin ends."""
    # All that a command would import, which takes longer than a tiny run.
    for name in (
        "torch._dynamo",  # by the first optimizer
        "torch.utils.tensorboard",
        "korlm.dataset.statistics.collect",
        "korlm.sweeps.command",
        "korlm.sweeps.plot",
        "korlm.train",
        "korlm.training.session",
    ):
        importlib.import_module(name)

    for line in sys.stdin:
        jobs, started = json.loads(line), time.monotonic()
        children = []
        for job in jobs:
            children.append(os.fork())
            if children[-1] == 0:
                _run(job)
        ends = [_await(child, started, job) for child, job in zip(children, jobs, strict=True)]
        print(json.dumps(ends), flush=True)


def _await(child: int, started: float, job: dict[str, Any]) -> tuple[int, float]:
    """Wait for the end of a child, or send it its signal; return exit code and seconds."""

    def is_due() -> bool:
        if "after" in job:
            return bool(time.monotonic() - started > job["after"])
        return len(list(Path(job["folder"]).glob(job["when"]))) >= job.get("count", 1)

    result, status = 0, 0
    while not result:
        asynchronous = "after" in job or "when" in job
        result, status = os.waitpid(child, os.WNOHANG if asynchronous else 0)
        if not result and is_due():
            os.kill(child, job.get("number", signal.SIGKILL))
            result, status = os.waitpid(child, 0)
        elif not result:
            time.sleep(0.002)
    return os.waitstatus_to_exitcode(status), time.monotonic() - started


if __name__ == "__main__":
    _serve()
