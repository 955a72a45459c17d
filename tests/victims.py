"""Processes to kill: one that has imported everything forks a victim for each command.

Importing PyTorch takes as long as a whole tiny run: a test that kills often pays for it once. Each
victim is a process of its own, with the command's own ``main``, and nothing softens its end.
"""

from __future__ import annotations

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

ROOT = Path(__file__).resolve().parent.parent
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
        """
        folder.mkdir(exist_ok=True)
        ask = {
            "folder": str(folder),
            "told": self._told.name,
            "argv": [command, *overrides],
            **death,
        }
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(ask) + "\n")
        self._server.stdin.flush()
        code, seconds = json.loads(self._server.stdout.readline())
        told = {name: Path(self._told.name) / name for name in ("changes", "out", "err")}
        changes = told["changes"].read_text("utf-8").splitlines()
        out, err = (told[name].read_text("utf-8", "replace") for name in ("out", "err"))
        return Ended(code, changes, seconds, out, err)


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


def _live(ask: dict[str, Any]) -> None:
    """The life of a victim."""
    import importlib

    folder = Path(ask["folder"])
    os.chdir(folder)
    command, *overrides = ask["argv"]
    fresh = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{ask['told']}/{name}", fresh), number)
    told = os.open(f"{ask['told']}/changes", fresh)
    sys.argv = [command, *overrides]
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
    import korlm.corpus_statistics.collect
    import korlm.evaluation.sweep_plot
    import korlm.prepare
    import korlm.train
    import korlm.training.run  # noqa: F401

    for line in sys.stdin:
        ask = json.loads(line)
        started = time.monotonic()
        victim = os.fork()
        if victim == 0:
            _live(ask)
        found, status = 0, 0
        while not found:
            found, status = os.waitpid(victim, os.WNOHANG if "after" in ask else 0)
            if not found and time.monotonic() - started > ask["after"]:
                os.kill(victim, ask.get("number", signal.SIGKILL))
                found, status = os.waitpid(victim, 0)
            elif not found:
                time.sleep(0.002)
        seconds = time.monotonic() - started
        print(json.dumps([os.waitstatus_to_exitcode(status), seconds]), flush=True)


if __name__ == "__main__":
    _serve()
