"""A pool of tokenizers: batches of lines in, columns for every batch out, in order.

Light tokenizers run in this process, slow ones in child processes (``workers/worker.py``). The
pool starts these, keeps each fed with a few batches, ends one that hangs and takes over from one
that died. What hung or killed is tried again in smaller parts until only that is left which cannot
be read by itself: no line is lost, and none suffers for its neighbours.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from korlm import _version
from korlm.config import Engine, JavaConfig, KkmaConfig, TokenizerConfig, WorkerConfig
from korlm.tokenizers.analysis import unpack
from korlm.tokenizers.registry import build_inprocess, tokenizer_version
from korlm.tokenizers.workers.external import TIMEOUT, with_defaults
from korlm.tokenizers.workers.protocol import ALIVE_SECONDS, Message, config_to_json, receive, send
from korlm.utils.errors import TokenizerError

logger = logging.getLogger(__name__)


START_SECONDS = 300.0  # Java and a dictionary take 4 to 8 s, or 60 beside ten other processes


MAX_DEATHS = 5  # of workers that were not ready, or had not begun with any line of a batch


Task: TypeAlias = Sequence[str] | pa.RecordBatch  # lines of a batch, or their columns


Part = tuple[int, int, int]  # line of a batch, first character, end


class _Job:
    """One batch of lines on its way through a worker."""

    def __init__(self, number: int, texts: Sequence[str]) -> None:
        self.number = number
        self.texts = list(texts)
        self.known: dict[Part, str] = {}  # not to be tried again, and why
        self.careful = False  # a worker died with it: the next one tells what it is about to try
        self.next: Part | None = None
        self.deaths: collections.Counter[Part | None] = collections.Counter()

    def message(self) -> Message:
        """What a worker is told."""
        known = [[*part, why] for part, why in self.known.items()]
        return {"id": self.number, "texts": self.texts, "known": known, "careful": self.careful}

    def died(self, why: str) -> None:
        """A worker ended with it: whoever was at work twice at such a time is to blame."""
        self.deaths[self.next] += 1
        if self.next is not None and self.deaths[self.next] >= 2:
            self.known[self.next] = why
        self.careful = True
        self.next = None


class _WorkerProcess:
    """One worker process and the batches it was given."""

    def __init__(self, config: WorkerConfig, inbox: queue.SimpleQueue[Any]) -> None:
        self.jobs: dict[int, _Job] = {}
        self.ready = False
        self.silent = 0.0  # seconds since its last message that somebody waited for one
        self._inbox = inbox
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        source = str(Path(_version.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "korlm.tokenizers.workers.worker", config_to_json(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": path},
            # Ctrl-C is for the parent alone, which then ends its children.
            start_new_session=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        while True:
            try:
                frame = receive(self.process.stdout)
            except (OSError, ValueError):
                frame = None
            self._inbox.put((self, frame))
            if frame is None:
                return

    def give(self, job: _Job) -> None:
        """Hands a batch over; a dead worker is noticed by its listener."""
        self.jobs[job.number] = job
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            send(self.process.stdin, job.message())

    @property
    def has_suspect(self) -> bool:
        """Whether it is at a batch that a worker died with."""
        return any(job.careful for job in self.jobs.values())

    def last_stderr_line(self) -> str:
        """Return why the process ended, in one line: see ``reason_of``; or its exit code."""
        self._stderr.seek(0)
        text = self._stderr.read().decode("utf-8", "replace")
        return reason_of(text) or f"exit code {self.process.wait()}"

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def reason_of(stderr: str) -> str:
    r"""Return the line of a worker's stderr that says why it ended; empty if there is none.

    That is the first line of a report of the JVM, whose last lines only say where to send it, or
    the last line of anything else.

    >>> reason_of("ready\n#\n# There is insufficient memory.\n# Saved as:\n# /tmp/a.log\n#\n")
    'There is insufficient memory.'
    """
    lines = [line.strip() for line in stderr.split("\n")]
    report = [line.lstrip("# ") for line in lines if line.startswith("#") and line.strip("# ")]
    if report and report[0].startswith("A fatal error"):  # the headline; what it was comes next
        del report[0]
    noise = ("WARNING", "Picked up ")
    other = [line for line in lines if line and not line.startswith(noise)]
    return report[0] if report else other[-1] if other else ""


class TokenizerPool:
    """Runs a tokenizer over batches of lines; a context manager that leaves no process behind.

    Args:
        config: which tokenizer, and for slow ones how many processes and threads.
        learned: what it learned from train, if it had to (``train_tokenizer``).

    Raises:
        TokenizerError: a package that it needs is not installed, or what it learned is damaged.
    """

    def __init__(self, config: TokenizerConfig, learned: bytes | None = None) -> None:
        self._config = config
        self._light = build_inprocess(config, learned)
        self._title = config.name.capitalize()
        self._inbox: queue.SimpleQueue[tuple[_WorkerProcess, tuple[Message, bytes] | None]] = (
            queue.SimpleQueue()
        )
        self._children: list[_WorkerProcess] = []
        # Held by a thread until its map has ended. The same thread may begin another one.
        self._lock = threading.RLock()
        self._false_starts: int | None = None  # of workers, since one was ready
        if self._light is None:
            if not isinstance(config, WorkerConfig):
                raise TokenizerError(f"tokenizer.name={config.name}: there is no such tokenizer")
            tokenizer_version(config)  # tells here and now if a package is missing
            self._config = with_defaults(config)

    def __enter__(self) -> TokenizerPool:
        return self

    def __exit__(self, *error: object) -> None:
        for child in self._children:
            child.close()
        self._children = []

    @property
    def is_light(self) -> bool:
        """Whether it works in this process, so fast that no result is worth keeping."""
        return self._light is not None

    def map(self, batches: Iterable[Task]) -> Iterator[pa.RecordBatch]:
        """The columns of each batch of lines (NFC), in the order of the batches.

        Only a few batches a thread are in flight at a time, so that memory does not grow. A batch
        whose columns are known already comes back as it is, in its turn; no process starts for it.

        Threads may share a pool: each waits until the iteration of another one has ended.

        Raises:
            TokenizerError: a worker does not start, or workers die whatever they are given.
        """
        with self._lock:
            if self._light is not None:
                for batch in batches:
                    known = isinstance(batch, pa.RecordBatch)
                    yield batch if known else self._light.analyze_batch(batch)
            elif isinstance(self._config, WorkerConfig):
                yield from self._map_in_children(self._config, batches)

    def _map_in_children(
        self, config: WorkerConfig, batches: Iterable[Task]
    ) -> Iterator[pa.RecordBatch]:
        numbered = enumerate(batches)
        if any(child.jobs for child in self._children):
            self.__exit__()  # the last map was left in the middle: its results must not come now
        in_flight = config.workers * ((config.threads or 1) + 2)
        waiting: collections.deque[_Job] = collections.deque()
        done: dict[int, pa.RecordBatch] = {}
        for number in itertools.count():
            while number not in done:
                pending = sum(len(child.jobs) for child in self._children) + len(done)
                for key, batch in itertools.islice(
                    numbered, max(0, in_flight - pending - len(waiting))
                ):
                    if isinstance(batch, pa.RecordBatch):
                        done[key] = batch
                    else:
                        waiting.append(_Job(key, batch))
                if waiting and not self._children:
                    self._children = [
                        _WorkerProcess(config, self._inbox) for _ in range(config.workers)
                    ]
                self._dispatch(waiting)
                if number in done:
                    break
                if not any(child.jobs for child in self._children):
                    return
                self._receive(config, waiting, done)
            yield done.pop(number)

    def _dispatch(self, waiting: collections.deque[_Job]) -> None:
        """Gives batches to the least busy worker; one that a worker died with goes alone."""
        for _ in range(len(waiting)):
            job = waiting.popleft()
            child = min(self._children, key=lambda c: (c.has_suspect, len(c.jobs)))
            if child.jobs and (job.careful or child.has_suspect):
                waiting.append(job)  # until a worker is free
            else:
                child.give(job)

    def _receive(
        self,
        config: WorkerConfig,
        waiting: collections.deque[_Job],
        done: dict[int, pa.RecordBatch],
    ) -> None:
        """Takes one message of a worker and acts on it; does not wait for long."""
        patience = START_SECONDS + config.line_timeout_s
        for child in self._children:  # they say each second that they live
            if child.jobs and child.silent > patience:
                # A busy or frozen machine makes any worker silent. Where no clock limits a line,
                # the line is not to blame: another worker reads it whole.
                self._replace(config, child, waiting, silent=not has_clock(config))
                return
        began, timeout = time.monotonic(), min(ALIVE_SECONDS, patience)
        message_of = frame = None
        with contextlib.suppress(queue.Empty):
            message_of, frame = self._inbox.get(timeout=timeout)
        # What this process slept itself, after Ctrl-Z, is nobody's silence.
        waited = min(time.monotonic() - began, timeout)
        for child in self._children:
            child.silent += waited
        if message_of is None:
            return
        child = message_of
        child.silent = 0.0
        if child not in self._children:
            return  # a last word of a worker that was replaced
        if frame is None:
            self._replace(config, child, waiting)
            return
        message, data = frame
        if "failed" in message:
            raise TokenizerError(f"{self._title} did not start: {message['failed']}")
        if "ready" in message:
            child.ready = True
            self._false_starts = 0
        elif "alive" in message or message["id"] not in child.jobs:
            return  # the second: a line was done just as it was called stuck
        elif "next" in message:
            child.jobs[message["id"]].next = tuple(message["next"])
        elif "stuck" in message:
            job = child.jobs[message["id"]]
            line, begin, end = message["stuck"]
            job.known[line, begin, end] = TIMEOUT
            logger.warning(
                "%s took more than %g s for %d characters (%.20s...): they are read in parts",
                self._title,
                config.line_timeout_s,
                end - begin,
                job.texts[line][begin:end],
            )
            self._replace(config, child, waiting, blame=False)
        else:
            job = child.jobs.pop(message["id"])
            done[job.number] = unpack(data)

    def _replace(
        self,
        config: WorkerConfig,
        child: _WorkerProcess,
        waiting: collections.deque[_Job],
        blame: bool = True,
        silent: bool = False,
    ) -> None:
        """Starts a worker in the place of a dead or stuck one; its batches wait for their turn.

        Args:
            config: of the new worker.
            child: the worker that is ended.
            waiting: where its batches go.
            blame: whether the line at work may be what ended it.
            silent: whether it was ended for its silence alone, which is no fault of any line.
        """
        child.process.kill()
        child.process.wait()
        if not child.ready:
            # What was ready once may be killed as it starts again, by whoever is short of memory.
            if self._false_starts is None or self._false_starts >= MAX_DEATHS:
                raise TokenizerError(
                    f"the worker of {self._title} ended before it was ready "
                    f"({child.last_stderr_line()}); {_is_there_memory(config)}"
                )
            self._false_starts += 1
        elif blame:
            said = child.last_stderr_line()
            logger.warning("a worker of %s died (%s); another goes on", self._title, said)
            for job in child.jobs.values():
                if silent:
                    job.deaths[None] += 1
                else:
                    job.died("Java died" if isinstance(config, JavaConfig) else "process died")
                if job.deaths[None] > MAX_DEATHS:
                    raise TokenizerError(
                        f"workers of {self._title} die again and again ({said}); "
                        + _is_there_memory(config)
                    )
        waiting.extend(child.jobs.values())
        child.close()
        self._children[self._children.index(child)] = _WorkerProcess(config, self._inbox)


def has_clock(config: WorkerConfig) -> bool:
    """Return whether ``line_timeout_s`` limits a line; Kkma's fast engine counts its steps."""
    return not (isinstance(config, KkmaConfig) and config.engine is Engine.fast)


def _is_there_memory(config: WorkerConfig) -> str:
    heap = f" for tokenizer.heap_mb={config.heap_mb}" if isinstance(config, JavaConfig) else ""
    return f"is there memory{heap}?"
