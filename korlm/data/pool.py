"""A pool of tokenizers: batches of lines in, a result for every line out, in order.

Light tokenizers run in this process. Kkma runs in child processes (``korlm.data.worker``); the
pool starts them, keeps each fed with a few batches, ends one that hangs or takes over from one that
died, and gives up only on what cannot be read at all: no line is lost.
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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

import korlm
from korlm.config import KkmaConfig, TokenizerConfig
from korlm.data.columns import Analysis, columns_of
from korlm.data.kkma import unread
from korlm.data.tokenizer import build_simple
from korlm.data.worker import Message, receive, send
from korlm.errors import TokenizerError

logger = logging.getLogger(__name__)

START_SECONDS = 120.0  # Java and Kkma's dictionary take about 4 s on a quiet machine


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Job:
    """One batch of lines on its way through a worker."""

    def __init__(self, number: int, texts: Sequence[str]) -> None:
        self.number = number
        self.texts = list(texts)
        self.skip: set[int] = set()
        self.deaths = 0  # workers that died with it


class _Child:
    """One worker process and the batches it was given."""

    def __init__(self, config: KkmaConfig, threads: int, inbox: queue.SimpleQueue[Any]) -> None:
        self.jobs: dict[int, _Job] = {}
        self.ready = False
        self._inbox = inbox
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        numbers = (str(threads), str(config.heap_mb), str(config.seconds_per_line))
        source = str(Path(korlm.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "korlm.data.worker", *numbers],
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
                message = receive(self.process.stdout)
            except (OSError, ValueError):
                message = None
            self._inbox.put((self, message))
            if message is None:
                return

    def give(self, job: _Job) -> None:
        """Hands a batch over; a dead worker is noticed by its listener."""
        self.jobs[job.number] = job
        assert self.process.stdin is not None
        try:
            message: Message = {"id": job.number, "texts": job.texts, "skip": sorted(job.skip)}
            send(self.process.stdin, message)
        except OSError:
            pass

    @property
    def has_suspect(self) -> bool:
        """Whether it is at a batch that a worker died with."""
        return any(job.deaths for job in self.jobs.values())

    def last_words(self) -> str:
        """The last line that the process wrote to stderr."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").split("\n")
        said = [line.strip() for line in lines if line.strip() and not line.startswith("WARNING")]
        return said[-1] if said else f"exit code {self.process.wait()}"

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class TokenizerPool:
    """Runs a tokenizer over batches of lines; a context manager that leaves no process behind.

    Args:
        config: which tokenizer, and for Kkma how many processes and threads.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        self._config = config
        self._simple = build_simple(config)
        self._inbox: queue.SimpleQueue[tuple[_Child, Message | None]] = queue.SimpleQueue()
        self._children: list[_Child] = []
        self._threads = 1
        if self._simple is None:
            if not isinstance(config, KkmaConfig):
                raise TokenizerError(f"tokenizer.name={config.name}: there is no such tokenizer")
            self._threads = config.threads or max(1, available_cores() // config.workers)

    def __enter__(self) -> TokenizerPool:
        return self

    def __exit__(self, *error: object) -> None:
        for child in self._children:
            child.close()
        self._children = []

    @property
    def is_light(self) -> bool:
        """Whether it works in this process, so fast that no result is worth keeping."""
        return self._simple is not None

    def map(self, batches: Iterable[Sequence[str]]) -> Iterator[pa.RecordBatch]:
        """The columns of each batch of lines (NFC), in the order of the batches.

        Only a few batches a thread are in flight at a time, so that memory does not grow.

        Raises:
            TokenizerError: a worker does not start, or dies again and again.
        """
        if self._simple is not None:
            for texts in batches:
                yield self._simple.analyze_batch(texts)
        elif isinstance(self._config, KkmaConfig):
            yield from self._map_in_children(self._config, batches)

    def _map_in_children(
        self, config: KkmaConfig, batches: Iterable[Sequence[str]]
    ) -> Iterator[pa.RecordBatch]:
        jobs = (_Job(number, texts) for number, texts in enumerate(batches))
        if any(child.jobs for child in self._children):
            self.__exit__()  # the last map was left in the middle: its results must not come now
        in_flight = config.workers * (self._threads + 2)
        waiting: collections.deque[_Job] = collections.deque()
        done: dict[int, list[Analysis]] = {}
        for number in itertools.count():
            while number not in done:
                pending = sum(len(child.jobs) for child in self._children) + len(done)
                waiting.extend(itertools.islice(jobs, max(0, in_flight - pending - len(waiting))))
                if waiting and not self._children:
                    self._children = [
                        _Child(config, self._threads, self._inbox) for _ in range(config.workers)
                    ]
                self._hand_out(waiting)
                if not any(child.jobs for child in self._children):
                    return
                self._receive(config, waiting, done)
            yield columns_of(done.pop(number))

    def _hand_out(self, waiting: collections.deque[_Job]) -> None:
        """Gives batches to the least busy worker; one that a worker died with goes alone."""
        for _ in range(len(waiting)):
            job = waiting.popleft()
            child = min(self._children, key=lambda c: (c.has_suspect, len(c.jobs)))
            if child.jobs and (job.deaths or child.has_suspect):
                waiting.append(job)  # until a worker is free
            else:
                child.give(job)

    def _receive(
        self,
        config: KkmaConfig,
        waiting: collections.deque[_Job],
        done: dict[int, list[Analysis]],
    ) -> None:
        """Takes one message of a worker and acts on it."""
        try:
            child, message = self._inbox.get(timeout=START_SECONDS + config.seconds_per_line)
        except queue.Empty:
            # Workers tell of each slow line and now and then that they go on; one that is silent
            # for so long does not live.
            child, message = next(c for c in self._children if c.jobs), None
            child.close()
        if child not in self._children:
            return  # a last word of a worker that was replaced
        if message is None:
            self._replace(config, child, waiting, done)
        elif "failed" in message:
            raise TokenizerError(f"Kkma did not start: {message['failed']}")
        elif "ready" in message:
            child.ready = True
        elif "alive" in message or message["id"] not in child.jobs:
            return  # the second: a line was done just as it was called stuck
        elif "stuck" in message:
            job, index = child.jobs[message["id"]], message["stuck"]
            job.skip.add(index)
            logger.warning(
                "Kkma took more than %g s for one line (%.20s...): it is parted at blanks instead",
                config.seconds_per_line,
                job.texts[index],
            )
            self._replace(config, child, waiting, done, blame=False)
        else:
            job = child.jobs.pop(message["id"])
            done[job.number] = [Analysis(*result) for result in message["results"]]

    def _replace(
        self,
        config: KkmaConfig,
        child: _Child,
        waiting: collections.deque[_Job],
        done: dict[int, list[Analysis]],
        blame: bool = True,
    ) -> None:
        """Starts a worker in the place of a dead or stuck one; its batches wait for their turn."""
        child.process.kill()
        child.process.wait()
        if not child.ready:
            why = child.last_words()
            raise TokenizerError(
                f"the worker of Kkma ended before it was ready ({why}); "
                f"is there memory for tokenizer.heap_mb={config.heap_mb}?"
            )
        if blame:
            logger.warning("a worker of Kkma died (%s); another goes on", child.last_words())
        for job in child.jobs.values():
            job.deaths += blame
            if job.deaths < 3:
                waiting.append(job)
            else:  # whatever is in this batch ends Java: part it at blanks rather than lose it
                done[job.number] = [unread(text, "Java died") for text in job.texts]
        child.close()
        self._children[self._children.index(child)] = _Child(config, self._threads, self._inbox)
