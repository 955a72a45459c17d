"""konlpy's other taggers in Java: Okt, Komoran, Hannanum.

Their tokens and tags are those of ``Okt().pos(line)``, ``Komoran().pos(line)`` and
``Hannanum().pos(line)``, from the same classes, called without konlpy's Python around them. Where a
token stands comes from

- Okt: the line itself; its tokens are pieces of the line, in order.
- Komoran: the places that it gives.
- Hannanum: its surfaces, which are the line without its blanks, in order; all morphs of a surface
  stand in the eojeol in which it begins.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from korlm.config import JavaConfig, WorkerConfig
from korlm.tokenizers.analysis import Analysis, Span
from korlm.tokenizers.jvm import java_exceptions, start_java
from korlm.tokenizers.offsets import analysis_of, eojeol_starts, find_spans, loss
from korlm.tokenizers.workers.external import LineAnalyzer
from korlm.utils.errors import TokenizerError
from korlm.utils.packages import konlpy_folder


class _Tagger(LineAnalyzer):
    """One tagger for one thread; the objects of a process share the JVM.

    Raises:
        TokenizerError: Java does not start, or the tagger does not load.
    """

    jar: ClassVar[str]
    others: ClassVar[tuple[str, ...]]  # that go with it, jars and folders
    class_name: ClassVar[str]

    def __init__(self, config: JavaConfig) -> None:
        super().__init__(config)
        import jpype

        self.folder = konlpy_folder() / "java"
        if not jpype.isJVMStarted():
            classpath = [self.folder / name for name in (self.jar, *self.others)]
            start_java(config, [], classpath, self.class_name)
        self.exceptions = java_exceptions()
        try:
            self.load(jpype)
            self.analyze_line("나는 간다.")  # dictionaries load with the first line
        except self.exceptions as error:
            why = " ".join(str(error).split())
            raise TokenizerError(
                f"its dictionary did not load ({why}); is there memory for tokenizer.heap_mb="
                f"{config.heap_mb}?"
            ) from error

    @classmethod
    def version_of(cls, config: WorkerConfig) -> str:
        """See ``LineAnalyzer.version_of``; the jar is the tagger."""
        jar = konlpy_folder() / "java" / cls.jar
        konlpy = importlib.metadata.version("konlpy")
        seconds = f"{config.line_timeout_s:g} s"
        return f"{cls.version}, konlpy {konlpy}, {jar.name} {_digest(jar)}, {seconds}"

    @abstractmethod
    def load(self, jpype: Any) -> None:
        """Makes the Java objects."""


class Okt(_Tagger):
    """Open Korean Text: pieces of the line, neither normalized nor stemmed."""

    jar = "open-korean-text-2.1.0.jar"
    others = (
        *("bin", "scala-library-2.12.3.jar", "twitter-text-1.14.7.jar", "snakeyaml-1.12.jar"),
    )
    class_name = "kr.lucypark.okt.OktInterface"

    def load(self, jpype: Any) -> None:
        """Makes the interface."""
        self._no = jpype.JClass("java.lang.Boolean").FALSE
        self._java = jpype.JClass(self.class_name)()

    def analyze_line(self, text: str) -> Analysis:
        """The tokens of one line."""
        told = self._java.tokenize(text, self._no, self._no)
        tokens = [str(token).rsplit("/", 1) for token in told]
        morphs = [morph for morph, _ in tokens]
        return analysis_of(text, morphs, [tag for _, tag in tokens], find_spans(text, morphs))


class Komoran(_Tagger):
    """Komoran; several threads share one object, which keeps nothing of a line."""

    jar = "komoran-3.0.jar"
    others = ("aho-corasick.jar", "shineware-common-1.0.jar", "shineware-ds-1.0.jar")
    class_name = "kr.co.shineware.nlp.komoran.core.Komoran"
    _shared: ClassVar[Any] = None

    def load(self, jpype: Any) -> None:
        """Reads the models, once in a process."""
        if Komoran._shared is None:
            models = str(self.folder / "data" / "models")
            Komoran._shared = jpype.JClass(self.class_name)(models)
        self._parser = jpype.JClass("kr.co.shineware.nlp.komoran.parser.KoreanUnitParser")()

    def analyze_line(self, text: str) -> Analysis:
        """The tokens of one line."""
        units = self._units(text)
        morphs, tags, spans = [], [], []
        for token in self._shared.analyze(text).getTokenList():
            morphs.append(str(token.getMorph()))
            tags.append(str(token.getPos()))
            begin, last = int(token.getBeginIndex()), int(token.getEndIndex()) - 1
            spans.append(Span(units[begin].begin, units[max(begin, last)].end))
        return analysis_of(text, morphs, tags, spans)

    def _units(self, text: str) -> list[Span]:
        """What Komoran counts in a line, and where it stands."""
        places = _komoran_places(text)
        if not _LETTER.search(text):
            return [Span(place, place + 1) for place in places]
        # Letters that stand alone join the syllable before or after them: 다ㅋ counts as 닼.
        letters = [place for place in places for _ in range(_num_letters(text[place]))]
        seen = "".join(text[place] for place in dict.fromkeys(places))
        areas = self._parser.getSyllableAreaList(self._parser.parse(seen))
        pairs = [(int(area.getFirst()), int(area.getSecond())) for area in areas]
        return [Span(letters[begin], letters[end - 1] + 1) for begin, end in pairs]


_LETTER = re.compile("[\u3131-\u318e]")  # of Hangul, not in a syllable


def _num_letters(char: str) -> int:
    """How many letters Komoran makes of a character: two or three of a syllable."""
    return 1 if not "가" <= char <= "힣" else 2 + ((ord(char) - ord("가")) % 28 > 0)


def _komoran_places(text: str) -> list[int]:
    """Places in a line of the UTF-16 that Komoran sees: without ends, runs of blanks being one.

    >>> _komoran_places("  가  😀나 ")
    [2, 3, 5, 5, 6]
    """
    ends = "".join(map(chr, range(0x21)))  # what Java's trim takes away
    begin, end = len(text) - len(text.lstrip(ends)), len(text.rstrip(ends))
    places: list[int] = []
    for place in range(begin, end):
        if text[place] != " " or text[place - 1] != " ":
            places += [place] * (2 if text[place] > "\uffff" else 1)
    return places


class Hannanum(_Tagger):
    """Hannanum with the tags of konlpy's default, nine; each thread has its own.

    konlpy reads all dictionaries anew for every line; here they are kept.
    """

    jar = "jhannanum-0.8.4.jar"
    others = ("bin",)
    class_name = "kr.lucypark.jhannanum.hannanum.WorkflowFactory"
    _tagged = re.compile(r"(.+?/\w+)\+?")  # konlpy's

    def load(self, jpype: Any) -> None:
        """Makes a workflow, as is done again when one was broken off by an exception."""
        self._factory: Any = jpype.JClass(self.class_name)
        self._restart()

    def _restart(self) -> None:
        kind = self._factory.WORKFLOW_HMM_POS_TAGGER_09
        self._workflow: Any = self._factory.getPredefinedWorkflow(kind)
        self._workflow.activateWorkflow(False)

    def analyze_line(self, text: str) -> Analysis:
        """The tokens of one line."""
        try:
            self._workflow.analyze(text)
            told = str(self._workflow.getResultOfDocument())
        except self.exceptions:
            self._restart()
            raise
        morphs: list[str] = []
        tags: list[str] = []
        eojeol: list[int] = []
        starts, position = eojeol_starts(text), 0
        for surface, reading in _hannanum_units(told):
            for token in self._tagged.findall(reading.strip()):
                morph, tag = token.rsplit("/", 1)
                morphs.append(morph)
                tags.append(tag)
                eojeol.append(starts[min(position, len(starts) - 1)])
            position += len("".join(surface.split()))
        return Analysis(morphs, tags, eojeol, *loss("".join(text.split())[position:]))


def _hannanum_units(told: str) -> list[tuple[str, str]]:
    r"""Surfaces and their readings, parted as konlpy parts them.

    >>> _hannanum_units("나는\n\t나/N+는/J\n\n간다\n\t가/P+ㄴ다/E\n\n\n")
    [('나는', '\t나/N+는/J'), ('간다', '\t가/P+ㄴ다/E')]
    """
    units: list[tuple[str, str]] = []
    unit: list[str] = []
    for line in (*told.strip().splitlines(), ""):
        if line:
            unit.append(line)
        else:
            units += [(unit[0], reading) for reading in unit[1:]]
            unit = []
    return units


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=6).hexdigest()
