"""Start worker processes, and define the jobs that the pool sends to them."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

from korlm import _version
from korlm.config import WorkerConfig
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.workers.protocol import Message, config_to_json, receive, send

if TYPE_CHECKING:
    import pyarrow as pa

Results: TypeAlias = "pa.RecordBatch | list[Analysis]"  # of consecutive lines


class Batch:
    """The results of a batch of lines so far; they may come from several jobs.

    Attributes:
        is_abandoned: True if the results are no longer needed.
    """

    def __init__(self, num_lines: int) -> None:
        self.is_abandoned = False
        self._missing = num_lines
        self._results: dict[int, Results] = {}  # index of the first line -> results

    def add(self, first: int, results: Results) -> None:
        """Add the results of consecutive lines, given the index of the first one."""
        self._results[first] = results
        self._missing -= len(results)

    @property
    def is_done(self) -> bool:
        """True if every line has a result."""
        return self._missing == 0

    def results(self) -> Results:
        """Return the results of all lines, in order."""
        parts = [self._results[first] for first in sorted(self._results)]
        if len(parts) == 1:
            return parts[0]
        if not parts or isinstance(parts[0], list):
            return list(itertools.chain.from_iterable(cast("list[list[Analysis]]", parts)))
        import pyarrow as pa

        from korlm.tokenizers.columns import ANALYSIS

        return pa.Table.from_batches(parts, ANALYSIS).combine_chunks().to_batches()[0]


@dataclass(eq=False)
class Job:
    """One message to a worker: consecutive lines of a batch, or one part of a line.

    Attributes:
        texts: the lines, or the part.
        batch: the batch of the lines; None for a part.
        first: index of the first line in the batch.
        alone: whether the worker must have no other job at the same time.
        deaths: number of workers that died while they had this job.
        result: for a part, its analysis, or the reason why it failed; None: not yet known.
        output: what a list of analyses has; None: a record batch of tokens (``kkma/process.py``).
    """

    texts: Sequence[str]
    batch: Batch | None = None
    first: int = 0
    alone: bool = False
    deaths: int = 0
    result: Analysis | str | None = None
    output: str | None = None

    def slice(self, begin: int, end: int) -> Job:
        """Return a new job, with no deaths, of the lines begin to end - 1."""
        texts, first = self.texts[begin:end], self.first + begin
        return Job(texts, self.batch, first, self.alone, output=self.output)


class WorkerProcess:
    """A worker process in Python (``workers/worker.py``) and its jobs.

    A subclass may start another program that has other messages.

    Args:
        config: settings without null (``with_defaults``).
        inbox: gets (this object, message and results) for each message except ``alive``, and
            (this object, None) at the end of the process.
        tokenizer_model: result of ``train_tokenizer``.

    Attributes:
        jobs: number -> job that the process has not answered yet.
        ready: whether the analyzers have started.
        silent: seconds that the pool has waited since the last message; may be a second too long,
            because the pool and the listener set it without a lock.

    Raises:
        TokenizerError: the program cannot be started.
    """

    def __init__(
        self,
        config: WorkerConfig,
        inbox: queue.SimpleQueue[Any],
        tokenizer_model: bytes | None = None,
    ) -> None:
        self.jobs: dict[int, Job] = {}
        self.ready = False
        self.silent = 0.0
        self._inbox = inbox
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            self.process = self._start(config, tokenizer_model)
        except BaseException:
            self._stderr.close()
            raise
        threading.Thread(target=self._listen, daemon=True).start()

    def _start(
        self, config: WorkerConfig, tokenizer_model: bytes | None
    ) -> subprocess.Popen[bytes]:
        """Start the process, and return it."""
        source = str(Path(_version.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "korlm.tokenizers.workers.worker", config_to_json(config)]
        if tokenizer_model:
            command.append("model")
        process = self._popen(command, {**os.environ, "PYTHONPATH": path})
        if tokenizer_model:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                send(process.stdin, {}, tokenizer_model)
        return process

    def _popen(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=env,
            # Ctrl-C goes to the parent only, which then ends its children.
            start_new_session=True,
        )

    def _send(self, stream: IO[bytes], number: int, job: Job) -> None:
        """Write a job in the format of the program."""
        send(stream, {"id": number, "texts": job.texts, "part": job.batch is None})

    def _received(self, message: Message, data: bytes) -> tuple[Message, Results | None]:
        """Return a message of the process, and the results in its data, None without any."""
        from korlm.tokenizers.columns import unpack

        return message, unpack(data) if data else None

    def _listen(self) -> None:
        """Put the messages of the process into the inbox until it ends.

        ``alive`` messages are not put there, since the inbox is only read while a map runs.
        """
        assert self.process.stdout is not None
        while True:
            answer = None
            with contextlib.suppress(OSError, ValueError):
                frame = receive(self.process.stdout)
                answer = None if frame is None else self._received(*frame)
            self.silent = 0.0
            if answer is None or "alive" not in answer[0]:
                self._inbox.put((self, answer))
            if answer is None:
                return

    def send(self, number: int, job: Job) -> None:
        """Send a job; if the process is dead, its listener notices."""
        self.jobs[number] = job
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self._send(self.process.stdin, number, job)

    @property
    def must_run_alone(self) -> bool:
        """True if one of its jobs must run alone."""
        return any(job.alone for job in self.jobs.values())

    def exit_reason(self) -> str:
        """Return why the process ended, in one line, or its exit code."""
        self._stderr.seek(0)
        text = self._stderr.read().decode("utf-8", "replace")
        return crash_reason(text) or f"exit code {self.process.wait()}"

    def close(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def crash_reason(stderr: str) -> str:
    r"""Return the line of a worker's stderr that says why it ended; empty if there is none.

    This is the first line of a JVM crash report, or the last line of other output.

    >>> crash_reason("ready\n#\n# There is insufficient memory.\n# Saved as:\n# /tmp/a.log\n#\n")
    'There is insufficient memory.'
    """
    lines = [line.strip() for line in stderr.split("\n")]
    report = [line.lstrip("# ") for line in lines if line.startswith("#") and line.strip("# ")]
    if report and report[0].startswith("A fatal error"):  # the next line is more specific
        del report[0]
    noise = ("WARNING", "Picked up ", "Error: Could not create", "Error: A fatal exception")
    other = [line for line in lines if line and not line.startswith(noise)]
    return report[0] if report else other[-1] if other else ""
