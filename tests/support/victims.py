"""Processes to kill: one that has imported everything forks a victim for each command.

Importing PyTorch takes as long as a whole tiny run: a test that kills often pays for it once. Each
victim is a process of its own, with the command's own ``main``, and nothing softens its end.
"""

from __future__ import annotations

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
# What changes the file system, as far as Python does it itself: the places to be killed at.
CHANGES = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.truncate"}


@dataclass(frozen=True)
class Ended:
    """How a victim ended.

    Attributes:
        code: its exit code; below zero: the signal that killed it.
        changes: to the file system, as told by one that ended by itself.
        seconds: it lived.
        out: what it said.
        err: on stderr.
    """

    code: int
    changes: list[str]
    seconds: float
    out: str
    err: str


class Victims:
    """Starts victims; a context manager that leaves no process behind."""

    def __enter__(self) -> Victims:
        self._told = tempfile.TemporaryDirectory()
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
        self._told.cleanup()

    def run(self, folder: Path, command: str, *overrides: str, **death: Any) -> Ended:
        """Runs a command in a folder of its own, to its end or to its death.

        Args:
            folder: the working directory.
            command: such as train.
            overrides: its arguments.
            death: one of ``change``: the number of the change to the file system (from 0) before
                which it is to be killed; ``after``: seconds; ``number``: the signal, else SIGKILL.
                ``clock``: the seconds by which its clock is wrong, jumping back and forth;
                ``unheard``: whether nobody reads what it says, as behind ``| head -1``.
        """
        (ended,) = self.together(folder, [[command, *overrides]], **death)
        return ended

    def together(self, folder: Path, commands: list[list[str]], **death: Any) -> list[Ended]:
        """Runs commands at the same time; arguments as of ``run``."""
        folder.mkdir(exist_ok=True)
        told = [f"{self._told.name}/{number}" for number in range(len(commands))]
        asks = [
            {"folder": str(folder), "told": place, "argv": argv, **death}
            for place, argv in zip(told, commands, strict=True)
        ]
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(asks) + "\n")
        self._server.stdin.flush()
        ends = json.loads(self._server.stdout.readline())
        found = []
        for place, (code, seconds) in zip(told, ends, strict=True):
            changes, out, err = (
                Path(f"{place}-{name}").read_text("utf-8", "replace")
                for name in ("changes", "out", "err")
            )
            found.append(Ended(code, changes.splitlines(), seconds, out, err))
        return found


def _watch(folder: Path, change: int | None, told: Any) -> None:
    """Tells every change below a folder, and ends this process before one of them."""
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
        os.write(told, f"{event} {os.path.relpath(path, folder)}\n".encode())

    sys.addaudithook(hook)


def _set_clock(wrong: float) -> None:
    """Makes the clock on the wall jump; the one that measures time goes on as ever."""
    real, calls = time.time, itertools.count()
    if wrong:
        time.time = lambda: real() + (wrong if next(calls) % 40 < 20 else -wrong)


def _live(ask: dict[str, Any]) -> None:
    """The life of a victim."""
    import importlib

    folder = Path(ask["folder"])
    os.chdir(folder)
    command, *overrides = ask["argv"]
    fresh = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{ask['told']}-{name}", fresh), number)
    told = os.open(f"{ask['told']}-changes", fresh)
    sys.argv = [command, *overrides]
    if ask.get("unheard"):
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    _set_clock(ask.get("clock", 0.0))
    main = importlib.import_module(f"korlm.{command}").main
    _watch(folder, ask.get("change"), told)
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
    """Forks and buries until stdin ends."""
    import korlm.dataset.statistics.collect
    import korlm.sweeps.plot
    import korlm.training.session  # noqa: F401

    for line in sys.stdin:
        asks, started = json.loads(line), time.monotonic()
        victims = []
        for ask in asks:
            victims.append(os.fork())
            if victims[-1] == 0:
                _live(ask)
        ends = [_await(victim, started, ask) for victim, ask in zip(victims, asks, strict=True)]
        print(json.dumps(ends), flush=True)


def _await(victim: int, started: float, ask: dict[str, Any]) -> tuple[int, float]:
    """Waits for the end of a victim or brings it about; gives its code and its seconds."""
    found, status = 0, 0
    while not found:
        found, status = os.waitpid(victim, os.WNOHANG if "after" in ask else 0)
        if not found and time.monotonic() - started > ask["after"]:
            os.kill(victim, ask.get("number", signal.SIGKILL))
            found, status = os.waitpid(victim, 0)
        elif not found:
            time.sleep(0.002)
    return os.waitstatus_to_exitcode(status), time.monotonic() - started


if __name__ == "__main__":
    _serve()
