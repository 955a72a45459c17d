"""What tokenizers share that run in child processes: slow, large, or in danger of hanging.

An analyzer reads batches of lines for one thread of a worker (``workers/worker.py``) and may fail
at any of them; ``ExternalTokenizer`` makes an analysis of every line of it all the same.
"""

from __future__ import annotations

import dataclasses
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, TypeVar

import pyarrow as pa

from korlm.config import JavaConfig, WorkerConfig
from korlm.text.unicode import is_blank, replace_lone_surrogates
from korlm.tokenizers.analysis import EMPTY, Analysis, Span, to_record_batch
from korlm.tokenizers.jvm import roomy_heap
from korlm.tokenizers.workers.fallback import Attempt, analyze_with_fallback
from korlm.utils.cpu import available_cores
from korlm.utils.packages import version_of

TIMEOUT = "too slow"


Config = TypeVar("Config", bound=WorkerConfig)


class Analyzer(Protocol):
    """One analyzer for one thread."""

    def analyze(self, texts: Sequence[str]) -> list[Analysis | str]:
        """An analysis of each line, or in a word why there is none. No line is blank."""

    def current_line(self) -> tuple[int, float]:
        """Return the line at work and its seconds so far, for another thread.

        -1 for the line between batches, and always for analyzers that no clock may end.
        """


class LineAnalyzer(ABC):
    """An analyzer that is called once for every line, by a clock."""

    exceptions: tuple[type[BaseException], ...] = (RecursionError,)  # of which a line may die
    version = "1"  # of what is made of the packages' answers
    packages: tuple[str, ...] = ()  # whose versions decide the tokens

    def __init__(self, config: WorkerConfig) -> None:
        self._at_work = (-1, 0.0)

    @classmethod
    def from_config(cls, config: WorkerConfig) -> ExternalTokenizer:
        """Return a tokenizer with a new analyzer, for one thread."""
        return ExternalTokenizer(config.name, cls.version_of(config), cls(config))

    @classmethod
    def version_of(cls, config: WorkerConfig) -> str:
        """Return the version of the tokens, for fingerprints, without starting the analyzer.

        Raises:
            TokenizerError: a package that it needs is not installed.
        """
        packages = [f"{name} {version_of(name, config.name)}" for name in cls.packages]
        return ", ".join([cls.version, *packages, f"{config.line_timeout_s:g} s"])

    @abstractmethod
    def analyze_line(self, text: str) -> Analysis:
        """The tokens of one line that is not blank."""

    def analyze(self, texts: Sequence[str]) -> list[Analysis | str]:
        """An analysis of each line, or the name of the exception that it died of."""
        found: list[Analysis | str] = []
        for index, text in enumerate(texts):
            began = time.monotonic()
            self._at_work = (index, began)
            try:
                analysis = self.analyze_line(text)
                found.append(analysis._replace(seconds=time.monotonic() - began))
            except self.exceptions as error:
                found.append(type(error).__name__.rpartition(".")[2])
        self._at_work = (-1, 0.0)
        return found

    def current_line(self) -> tuple[int, float]:
        """The line at work and its seconds so far."""
        line, began = self._at_work
        return line, time.monotonic() - began


class ExternalTokenizer:
    """An analyzer on lines of any kind; one object serves one thread.

    Args:
        name: of the tokenizer.
        version: of what it says, for fingerprints.
        analyzer: reads lines whole.
        cut: whether an eojeol that cannot be read whole may be cut.
    """

    def __init__(self, name: str, version: str, analyzer: Analyzer, cut: bool = True) -> None:
        self.name, self.version, self.analyzer, self._cut = name, version, analyzer, cut

    def analyze(self, text: str) -> Analysis:
        """The tokens of one line."""
        return self.analyze_lines([text])[0]

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """One row for every line, in order."""
        return to_record_batch(self.analyze_lines(texts))

    def tokenize(self, text: str) -> list[str]:
        """The tokens of one line alone."""
        return self.analyze(text).morphs

    def analyze_lines(self, texts: Sequence[str]) -> list[Analysis]:
        """One analysis for every line, in order."""
        analyses = [EMPTY] * len(texts)
        texts = [replace_lone_surrogates(text) for text in texts]
        written = [number for number, text in enumerate(texts) if not is_blank(text)]
        found = self.analyzer.analyze([texts[number] for number in written])
        for number, analysis in zip(written, found, strict=True):
            if isinstance(analysis, str):
                analysis = self.analyze_with_fallback(texts[number], analysis)
            analyses[number] = analysis
        return analyses

    def analyze_with_fallback(
        self, text: str, why: str, attempt: Attempt | None = None
    ) -> Analysis:
        """The analysis of a line that cannot be read whole.

        Args:
            text: the line.
            why: what became of it as a whole.
            attempt: analyses a part of it; None: this object does.
        """

        def mine(span: Span) -> Analysis | str:
            return self.analyzer.analyze([text[span.begin : span.end]])[0]

        return analyze_with_fallback(text, why, attempt or mine, self._cut)


def with_defaults(config: Config) -> Config:
    """The settings with numbers in the place of null: threads by cores, heap by threads and memory.

    Kkma's dictionary and probabilities take 0.3 GB; words that are hostile take the rest.
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
