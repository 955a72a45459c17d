"""Define the base class of tokenizers in child processes, which are slow, large, or may hang."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TypeVar

from korlm.config import JavaConfig, KkmaConfig, WorkerConfig
from korlm.text.unicode import is_blank, replace_lone_surrogates
from korlm.tokenizers.analysis import EMPTY, Analysis, Span
from korlm.tokenizers.jvm import roomy_heap
from korlm.tokenizers.workers.fallback import analyze_with_fallback
from korlm.utils.machine import available_cores
from korlm.utils.packages import package_version

TIMEOUT = "too slow"  # reason in the status of a line that exceeds ``line_timeout_s``
CLOCK_FACTOR = 10  # seconds by the clock that count as one second of CPU time

Config = TypeVar("Config", bound=WorkerConfig)

_memory_lock = threading.Lock()


class LineAnalyzer(ABC):
    """Base class of analyzers that analyze line by line, with a time limit per line.

    ``analyze_line`` may fail on any line; ``analyze_lines`` returns an analysis of every line. One
    object serves one thread.

    Attributes:
        exceptions: exceptions after which a line counts as failed.
        version: version of the conversion of the packages' results; part of ``version_of`` unless a
            subclass overrides that method.
        packages: packages that the analyzer needs; their versions are part of fingerprints.
    """

    exceptions: tuple[type[BaseException], ...] = (RecursionError,)
    version = "1"
    packages: tuple[str, ...] = ()

    def __init__(self, config: WorkerConfig) -> None:
        self._can_cut = may_cut(config)
        self._current = (-1, 0.0, 0.0)  # index of the current line; clock and CPU time at its start
        self._cpu_clock: int | None = None

    @classmethod
    def from_config(cls, config: WorkerConfig, learned: bytes | None = None) -> LineAnalyzer:
        """Return an analyzer for one thread."""
        return cls(config)

    @classmethod
    def train(cls, config: WorkerConfig, lines: Iterable[str]) -> bytes | None:
        """Return data to store with the corpus and pass to ``from_config``; None: there is none."""
        return None

    @classmethod
    def version_of(cls, config: WorkerConfig, learned: bytes | None = None) -> str:
        """Return the version of the tokens, for fingerprints, without starting the analyzer.

        ``learned`` is the result of ``train``; None: unknown, or there is none.

        Raises:
            TokenizerError: a package is not installed.
        """
        packages = [f"{name} {package_version(name, config.name)}" for name in cls.packages]
        return ", ".join([cls.version, *packages, f"{config.line_timeout_s:g} s"])

    @abstractmethod
    def analyze_line(self, text: str) -> Analysis:
        """Return the tokens of a non-blank line."""

    def analyze_lines(self, texts: Sequence[str]) -> list[Analysis]:
        """Return one analysis for every line, in order; lines that fail are analyzed in parts."""
        texts = [replace_lone_surrogates(text) for text in texts]
        results = [
            EMPTY if is_blank(text) else self._attempt(text, line)
            for line, text in enumerate(texts)
        ]
        analyses: list[Analysis] = []
        for line, result in enumerate(results):
            if result == "OutOfMemoryError":  # the lines of other threads may have filled the heap
                with _memory_lock:
                    result = self._attempt(texts[line], line)
            if isinstance(result, str):
                result = self._analyze_in_parts(texts[line], line, result)
            analyses.append(result)
        return analyses

    def analyze_part(self, text: str) -> Analysis | str:
        """Return the analysis of a part of a line, not blank, or the reason why it failed."""
        return self._attempt(replace_lone_surrogates(text), 0)

    def _analyze_in_parts(self, text: str, line: int, why: str) -> Analysis:
        def attempt(span: Span) -> Analysis | str:
            return self._attempt(text[span.begin : span.end], line)

        return analyze_with_fallback(text, why, attempt, self._can_cut)

    def _attempt(self, text: str, line: int) -> Analysis | str:
        """Return the analysis of a line or a part of it, or the name of the exception it raised."""
        self._cpu_clock = _cpu_clock_of_thread()
        start = time.monotonic()
        self._current = (line, start, _read_cpu_clock(self._cpu_clock))
        try:
            return self.analyze_line(text)._replace(seconds=time.monotonic() - start)
        except self.exceptions as error:
            return type(error).__name__.rpartition(".")[2]
        finally:
            self._current = (-1, 0.0, 0.0)

    def current_line(self) -> tuple[int, float]:
        """Return the index of the current line, -1 for none, and its seconds so far.

        These are seconds of CPU time, so that a busy machine changes no tokens. An analyzer may
        also wait forever: a tenth of the time by the clock counts if it is more, or all of it where
        the CPU time of another thread is unknown (macOS, Windows). Another thread may call this.
        """
        index, start, cpu_start = self._current
        if index < 0:  # the thread of the last line may have ended, and its clock with it
            return index, 0.0
        seconds = time.monotonic() - start
        if self._cpu_clock is None:
            return index, seconds
        cpu_seconds = _read_cpu_clock(self._cpu_clock) - cpu_start
        return index, max(cpu_seconds, seconds / CLOCK_FACTOR)


def _cpu_clock_of_thread() -> int | None:
    """Return the clock of this thread's CPU time, for any thread to read; None if there is none."""
    if hasattr(time, "pthread_getcpuclockid"):
        return time.pthread_getcpuclockid(threading.get_ident())
    return None


def _read_cpu_clock(clock: int | None) -> float:
    return 0.0 if clock is None else time.clock_gettime(clock)


def may_cut(config: WorkerConfig) -> bool:
    """Return True if an eojeol that cannot be analyzed may be cut into pieces."""
    return not isinstance(config, KkmaConfig) or config.limit_work


def with_defaults(config: Config) -> Config:
    """Replace null in the settings: threads depend on the cores, the heap on threads and memory.

    KoNLPy's dictionary takes 0.3 GB; some words need much memory in both engines.
    """
    threads = config.threads or max(1, available_cores() // config.workers)
    config = dataclasses.replace(config, threads=threads)
    if isinstance(config, JavaConfig) and config.heap_mb is None:
        heap = roomy_heap(threads)
        if hasattr(os, "sysconf"):
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
            heap = max(512, min(heap, memory // 2 // config.workers))
        config = dataclasses.replace(config, heap_mb=heap)
    return config
