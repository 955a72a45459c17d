"""Kkma: konlpy's own, and the fast engine that says the same.

The fast engine (``java/``, GPL like Kkma) is Kkma's search written anew over Kkma's dictionary:
readings are immutable and shared, nothing is printed to strings that nobody reads, and the analysis
of a word is remembered together with what it asked about the word before. It gives the tokens and
tags of ``Kkma().morphs`` and ``Kkma().pos`` wherever these come to an end. The work on each word is
bounded by a count of steps: a word over this budget is cut into pieces of eight syllables, or left
whole without ``tokenizer.limit_work``. No clock is involved, so that the tokens of a line are the
same on every machine and under any load, and the time for a line is linear in its length.
"""

from __future__ import annotations

import collections
import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from korlm.config import Engine, KkmaConfig
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.jvm import find_java, java_exceptions, java_options, start_java
from korlm.tokenizers.offsets import eojeol_starts, loss
from korlm.tokenizers.workers.external import (
    Analyzer,
    ExternalTokenizer,
    LineAnalyzer,
    with_defaults,
)
from korlm.utils.errors import TokenizerError
from korlm.utils.packages import konlpy_folder

JAR = Path(__file__).parent / "java" / "kkma.jar"


FAST_VERSION = 2  # of what the fast engine says; a change makes prepared corpora and caches anew


# Kkma swallows exceptions while it loads: only these tell whether its dictionary is whole.
NUM_ENTRIES = 365_048


SELF_TEST = {
    "아버지가방에들어가신다.": "아버지 가방 에 들어가 시 ㄴ다 .",
    "나는 학교에 갔다.": "나 는 학교 에 가 었 다 .",
    "영화가 정말 재미있었어요!": "영화 가 정말 재미있 었 어요 !",
}


# Pairs of readings that may be looked at for one word, and eight for each that is built. What Kkma
# itself does within 10 s took up to 2.5 million (2026-11, all families of hostile words tried).
BUDGET = 8_000_000


OLD_GENERATION_MB = 460  # MB of the heap for what stays


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
            _start_java(config)
            kind._shared = jpype.JClass("korlm.kkma.Engine$Shared")(
                _num_readings(config.heap_mb or 0)
            )
            if (found := kind._shared.numEntries()) != NUM_ENTRIES:
                raise _not_whole(f"Kkma's dictionary holds {found} entries", config)
        self._strings = jpype.JArray(jpype.JString)
        self._engine = jpype.JClass("korlm.kkma.Engine")(kind._shared, BUDGET, config.limit_work)

    def analyze(self, texts: Sequence[str]) -> list[Analysis | str]:
        """One crossing into Java and back for all the lines."""
        told = str(self._engine.analyze(self._strings(list(texts))))
        return [_fast_analysis(line) for line in told.split("\n")[:-1]]

    def current_line(self) -> tuple[int, float]:
        """Return no line: the engine bounds its work itself, and no clock may end it."""
        return -1, 0.0


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


class KonlpyKkma(LineAnalyzer):
    """konlpy's Kkma as it is, for comparison; objects share the JVM and its dictionary.

    There is one crossing into Java for every morpheme.
    """

    def __init__(self, config: KkmaConfig) -> None:
        super().__init__(config)
        find_java()
        # konlpy starts Java itself and takes no options.
        given = [os.environ.get("JAVA_TOOL_OPTIONS", ""), *(f'"{o}"' for o in java_options())]
        os.environ["JAVA_TOOL_OPTIONS"] = " ".join(filter(None, given))
        from konlpy.tag import Kkma

        try:
            self._kkma: Any = Kkma(max_heap_size=config.heap_mb)
        except Exception as error:
            raise TokenizerError(f"Java did not start: {' '.join(str(error).split())}") from error
        self.exceptions = java_exceptions()

    def analyze_line(self, text: str) -> Analysis:
        """The tokens of one line."""
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
        return Analysis(morphs, tags, eojeol, *loss(lost.elements()))


class KkmaTokenizer(ExternalTokenizer):
    """Kkma on lines of any kind; ``morphs`` equal ``Kkma().morphs(text)`` where that ends.

    Kkma rewrites (갔다 -> 가, 었, 다): text cannot be rebuilt from the tokens alone. One object
    serves one thread; several objects share the JVM and its dictionary.

    Raises:
        TokenizerError: Java does not start, or Kkma's dictionary did not load whole.
    """

    def __init__(self, config: KkmaConfig | None = None) -> None:
        config = with_defaults(config or KkmaConfig(name="kkma"))
        make = FastKkma if config.engine is Engine.fast else KonlpyKkma
        analyzer: Analyzer = make(config)
        super().__init__("kkma", kkma_version(config), analyzer, config.limit_work)
        for (text, expected), found in zip(
            SELF_TEST.items(), analyzer.analyze(list(SELF_TEST)), strict=True
        ):
            morphs = found if isinstance(found, str) else " ".join(found.morphs)
            if morphs != expected:
                raise _not_whole(f"Kkma reads {text!r} as {morphs!r}, not {expected!r}", config)

    @classmethod
    def from_config(cls, config: KkmaConfig) -> KkmaTokenizer:
        """Return a tokenizer for one thread."""
        return cls(config)

    @classmethod
    def version_of(cls, config: KkmaConfig) -> str:
        """See ``kkma_version``."""
        return kkma_version(config)


def kkma_version(config: KkmaConfig) -> str:
    """Which Kkma this is and how it is bounded, without starting Java."""
    version = f"konlpy {importlib.metadata.version('konlpy')}"
    if config.engine is Engine.fast:
        version += f", fast {FAST_VERSION}"
    if config.limit_work:
        version += ", guard"
    if config.engine is Engine.konlpy:
        version += f", {config.line_timeout_s:g} s"  # the clock decides which lines are given up
    return version


def _not_whole(what: str, config: KkmaConfig) -> TokenizerError:
    return TokenizerError(
        f"{what}: its dictionary did not load whole; give tokenizer.heap_mb more than "
        f"{config.heap_mb}"
    )


def _start_java(config: KkmaConfig) -> None:
    """Starts the JVM with Kkma and the fast engine."""
    heap = config.heap_mb or 0
    # Kkma's dictionary needs 450 MB while it is copied; all else dies young.
    options = [f"-Xmn{heap - OLD_GENERATION_MB}m"] if heap - OLD_GENERATION_MB > heap // 3 else []
    kkma = konlpy_folder() / "java" / "kkma-2.0.jar"
    start_java(config, options, [JAR, kkma], "korlm.kkma.Engine")
