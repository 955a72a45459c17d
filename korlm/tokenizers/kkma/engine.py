"""Kkma: KoNLPy's engine, and a fast engine with the same results.

The fast engine (``java/``, GPL like Kkma) reimplements Kkma's search over Kkma's dictionary, which
its jar holds as flat arrays, with immutable, shared readings and a cache of analyzed words. It
returns the tokens and tags of
``Kkma().morphs`` and ``Kkma().pos`` wherever these return. The work on each word is limited by a
count of steps: a word over this budget is cut into pieces of eight syllables, or left unanalyzed
with ``tokenizer.limit_work=false``. No clock is involved, so the tokens of a line are the same on
every machine and under any load, and the time for a line is linear in its length.
"""

from __future__ import annotations

import collections
import importlib.metadata
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from korlm.config import KkmaConfig, KkmaEngine
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.jvm import find_java, java_exceptions, java_options, start_java
from korlm.tokenizers.kkma.user_dictionary import digest_of, read_user_dictionary
from korlm.tokenizers.offsets import eojeol_starts, loss
from korlm.tokenizers.workers.external import (
    SPANS,
    Analyzer,
    ExternalTokenizer,
    LineAnalyzer,
    with_defaults,
)
from korlm.utils.errors import TokenizerError
from korlm.utils.packages import konlpy_folder

JAR = Path(__file__).parents[1] / "java" / "kkma.jar"

FAST_VERSION = 2  # of the fast engine's results; a part of fingerprints and cache keys

# These two show whether the dictionary is complete (KoNLPy's engine ignores errors as it loads).
NUM_ENTRIES = 365_048

SELF_TEST = {
    "아버지가방에들어가신다.": "아버지 가방 에 들어가 시 ㄴ다 .",
    "나는 학교에 갔다.": "나 는 학교 에 가 었 다 .",
    "영화가 정말 재미있었어요!": "영화 가 정말 재미있 었 어요 !",
}

# Steps per word: one for each pair of readings compared, eight for each reading built. Words that
# Kkma itself analyzes within 10 s took up to 2.5 million (2026-11, all kinds of hard words tried).
BUDGET = 8_000_000

# Of the heap, for short-lived objects: a larger part would fill the memory without saving time.
YOUNG_MB, YOUNG_MB_PER_THREAD = 128, 32


class FastKkma:
    """Calls the fast engine; objects share the JVM, the dictionary and the cache of words.

    Args:
        config: settings of the first object.
        words: of the user dictionary (``read_user_dictionary``); the same for all objects.

    Raises:
        TokenizerError: Java does not start, or the dictionary is incomplete.
    """

    _shared: Any = None

    def __init__(self, config: KkmaConfig, words: bytes | None = None) -> None:
        import jpype

        kind = type(self)
        if kind._shared is None:
            _start_java(config)
            kind._shared = jpype.JClass("korlm.kkma.Engine$Shared")(
                _num_readings(config.heap_mb or 0), (words or b"").decode()
            )
            if (num_entries := kind._shared.numEntries()) != NUM_ENTRIES:
                raise _incomplete(f"Kkma's dictionary has {num_entries} entries", config)
        self._strings = jpype.JArray(jpype.JString)
        self._engine = jpype.JClass("korlm.kkma.Engine")(kind._shared, BUDGET, config.limit_work)

    def analyze(self, texts: Sequence[str], output: str | None = None) -> list[Analysis | str]:
        """Return the analyses of all lines, with one call of Java.

        Args:
            texts: the lines.
            output: ``tokens`` (or None); ``spans``: tokens with spans and, in place of the eojeol
                written, the index of Kkma's; ``sentences`` or ``nouns``: these as tokens.
        """
        lines = str(self._engine.analyze(self._strings(list(texts)), output or "tokens"))
        parse = _parse_spans if output == SPANS else _parse_analysis
        return [parse(line) for line in lines.split("\n")[:-1]]

    def current_line(self) -> tuple[int, float]:
        """Return no line: the engine limits its work itself and has no time limit."""
        return -1, 0.0


_FAST_STATUS = {"o": "ok", "c": "cut: over budget", "f": "fallback: over budget", "e": "empty"}


def _parse_analysis(line: str) -> Analysis | str:
    """Parse a line of the engine's output (see ``Engine.java``)."""
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


def _parse_spans(line: str) -> Analysis | str:
    """Parse a line of the engine's output with the places of tokens."""
    fields = line.split("\t")
    if fields[0].startswith("!"):
        return fields[0][1:]
    places = [list(map(int, field.split(" "))) for field in fields[5::3]]
    return Analysis(
        fields[3::3],
        fields[4::3],
        [eojeol for eojeol, _, _ in places],
        _FAST_STATUS[fields[0]],
        int(fields[1]),
        int(fields[2]) / 1e6,
        [offset for _, *span in places for offset in span],
    )


def _num_readings(heap: int) -> int:
    """Return the number of readings to cache, about 180 bytes each.

    A larger cache cost more time in garbage collection than it saved (nsmc-lm, 2026-11).
    """
    return heap * 300


class KonlpyKkma(LineAnalyzer):
    """KoNLPy's Kkma, for comparison; objects share the JVM and its dictionary."""

    def __init__(self, config: KkmaConfig) -> None:
        super().__init__(config)
        find_java()
        # konlpy starts Java itself, without options.
        options = [os.environ.get("JAVA_TOOL_OPTIONS", ""), *(f'"{o}"' for o in java_options())]
        os.environ["JAVA_TOOL_OPTIONS"] = " ".join(filter(None, options))
        from konlpy.tag import Kkma

        try:
            self._kkma: Any = Kkma(max_heap_size=config.heap_mb)
        except Exception as error:
            raise TokenizerError(f"Java did not start: {' '.join(str(error).split())}") from error
        self.exceptions = java_exceptions()

    def analyze_line(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        morphs: list[str] = []
        tags: list[str] = []
        eojeol: list[int] = []
        starts = eojeol_starts(text)
        position = 0
        surfaces: list[str] = []
        # The surfaces of Kkma's units are the line without white space, in order (1,391 of 1,391
        # lines of docs-lm and nsmc-lm); a unit is often smaller than an eojeol.
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
    """Kkma on arbitrary lines; ``morphs`` equal ``Kkma().morphs(text)`` where that returns.

    Kkma normalizes (갔다 -> 가, 었, 다): text cannot be rebuilt from the tokens alone. One object
    serves one thread; the objects of a process share the JVM and its dictionary.

    Raises:
        TokenizerError: Java does not start, or Kkma's dictionary is incomplete.
    """

    def __init__(self, config: KkmaConfig | None = None, words: bytes | None = None) -> None:
        config = with_defaults(config or KkmaConfig(name="kkma"))
        is_fast = config.engine is KkmaEngine.fast
        analyzer: Analyzer = FastKkma(config, words) if is_fast else KonlpyKkma(config)
        super().__init__("kkma", kkma_version(config, words), analyzer, config.limit_work)
        if words:
            return  # they may change the tokens of the self-test
        for (text, expected), result in zip(
            SELF_TEST.items(), analyzer.analyze(list(SELF_TEST)), strict=True
        ):
            morphs = result if isinstance(result, str) else " ".join(result.morphs)
            if morphs != expected:
                raise _incomplete(f"Kkma analyzes {text!r} as {morphs!r}, not {expected!r}", config)

    @classmethod
    def from_config(cls, config: KkmaConfig, learned: bytes | None = None) -> KkmaTokenizer:
        """Return a tokenizer for one thread."""
        return cls(config, learned)

    @classmethod
    def train(cls, config: KkmaConfig, lines: Iterable[str]) -> bytes | None:
        """Return the words of the user dictionary, which are stored like a trained model."""
        if config.user_dictionary is None:
            return None
        return read_user_dictionary(config.user_dictionary) or None

    @classmethod
    def version_of(cls, config: KkmaConfig, learned: bytes | None = None) -> str:
        """See ``kkma_version``."""
        return kkma_version(config, learned or cls.train(config, []))


def kkma_version(config: KkmaConfig, words: bytes | None = None) -> str:
    """Return the version of the engine, its limits and its user words, without starting Java."""
    version = f"konlpy {importlib.metadata.version('konlpy')}"
    if config.engine is KkmaEngine.fast:
        version += f", fast {FAST_VERSION}"
    if config.limit_work:
        version += ", guard"
    if config.engine is KkmaEngine.konlpy:
        version += f", {config.line_timeout_s:g} s"  # the time limit decides which lines fail
    return version + (f", user dictionary {digest_of(words)}" if words else "")


def _incomplete(problem: str, config: KkmaConfig) -> TokenizerError:
    return TokenizerError(
        f"{problem}: its dictionary is incomplete; set tokenizer.heap_mb more than {config.heap_mb}"
    )


def _start_java(config: KkmaConfig) -> None:
    """Start the JVM with Kkma and the fast engine."""
    young = YOUNG_MB + YOUNG_MB_PER_THREAD * (config.threads or 1)
    # With the thresholds of Java, compiling what only runs at the start takes 0.3 s of CPU time.
    options = [f"-Xmn{min(young, (config.heap_mb or 0) // 3)}m", "-XX:CompileThresholdScaling=4"]
    kkma = konlpy_folder() / "java" / "kkma-2.0.jar"
    start_java(config, options, [JAR, kkma], "korlm.kkma.Engine")
