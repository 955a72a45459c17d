"""Tokenize with the other Java taggers of KoNLPy: Okt, Komoran, Hannanum.

Tokens and tags are those of ``Okt().pos(line)``, ``Komoran().pos(line)`` and
``Hannanum().pos(line)``; the same Java classes are called without konlpy's Python code. Eojeol
indices are computed as follows:

- Okt: the tokens are substrings of the line, in order.
- Komoran: it returns offsets.
- Hannanum: its surfaces, joined, are the line without white space; all morphs of a surface belong
  to the eojeol in which the surface begins.
"""

from __future__ import annotations

import importlib.metadata
import re
from abc import abstractmethod
from typing import Any, ClassVar

from korlm.config import JavaConfig, WorkerConfig
from korlm.tokenizers.analysis import Analysis, Span
from korlm.tokenizers.jvm import java_exceptions, start_java
from korlm.tokenizers.offsets import analysis_of, eojeol_of_visible, find_spans, status_and_dropped
from korlm.tokenizers.workers.external import LineAnalyzer
from korlm.utils.errors import TokenizerError
from korlm.utils.io.checksums import short_hash
from korlm.utils.packages import konlpy_folder


class _Tagger(LineAnalyzer):
    """A tagger for one thread; the objects of a process share the JVM.

    Raises:
        TokenizerError: Java does not start, or the tagger does not load.
    """

    jar: ClassVar[str]
    others: ClassVar[tuple[str, ...]]  # other jars and folders that it needs
    class_name: ClassVar[str]

    def __init__(self, config: JavaConfig) -> None:
        super().__init__(config)
        import jpype

        self.folder = konlpy_folder() / "java"
        if not jpype.isJVMStarted():
            classpath = [self.folder / name for name in (self.jar, *self.others)]
            start_java(config, classpath, self.class_name)
        self.exceptions = java_exceptions()
        try:
            self.load(jpype)
            self.analyze_line("나는 간다.")  # dictionaries load with the first line
        except self.exceptions as error:
            why = " ".join(str(error).split())
            raise TokenizerError(
                f"its dictionary did not load ({why}); is there enough memory for "
                f"tokenizer.heap_mb={config.heap_mb}?"
            ) from error

    @classmethod
    def version_of(cls, config: WorkerConfig, learned: bytes | None = None) -> str:
        """See ``LineAnalyzer.version_of``; the jar is the tagger."""
        jar = konlpy_folder() / "java" / cls.jar
        konlpy = importlib.metadata.version("konlpy")
        seconds = f"{config.line_timeout_s:g} s"
        return (
            f"{cls.version}, konlpy {konlpy}, {jar.name} {short_hash(jar.read_bytes())}, {seconds}"
        )

    @abstractmethod
    def load(self, jpype: Any) -> None:
        """Create the Java objects."""


class Okt(_Tagger):
    """Open Korean Text: pieces of the line, neither normalized nor stemmed."""

    jar = "open-korean-text-2.1.0.jar"
    others = (
        *("bin", "scala-library-2.12.3.jar", "twitter-text-1.14.7.jar", "snakeyaml-1.12.jar"),
    )
    class_name = "kr.lucypark.okt.OktInterface"

    def load(self, jpype: Any) -> None:
        """Create the interface."""
        self._false = jpype.JClass("java.lang.Boolean").FALSE
        self._java = jpype.JClass(self.class_name)()

    def analyze_line(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        output = self._java.tokenize(text, self._false, self._false)  # no normalizing, no stemming
        tokens = [str(token).rsplit("/", 1) for token in output]
        morphs = [morph for morph, _ in tokens]
        return analysis_of(text, morphs, [tag for _, tag in tokens], find_spans(text, morphs))


class Komoran(_Tagger):
    """Komoran; all threads share one stateless Java object."""

    jar = "komoran-3.0.jar"
    others = ("aho-corasick.jar", "shineware-common-1.0.jar", "shineware-ds-1.0.jar")
    class_name = "kr.co.shineware.nlp.komoran.core.Komoran"
    _shared: ClassVar[Any] = None

    def load(self, jpype: Any) -> None:
        """Load the models, once per process."""
        if Komoran._shared is None:
            models = str(self.folder / "data" / "models")
            Komoran._shared = jpype.JClass(self.class_name)(models)
        self._parser = jpype.JClass("kr.co.shineware.nlp.komoran.parser.KoreanUnitParser")()

    def analyze_line(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        units = self._units(text)
        morphs, tags, spans = [], [], []
        for token in self._shared.analyze(text).getTokenList():
            morphs.append(str(token.getMorph()))
            tags.append(str(token.getPos()))
            begin, last = int(token.getBeginIndex()), int(token.getEndIndex()) - 1
            spans.append(Span(units[begin].begin, units[max(begin, last)].end))
        return analysis_of(text, morphs, tags, spans)

    def _units(self, text: str) -> list[Span]:
        """Return the span in the line of each unit that Komoran's offsets count."""
        offsets = komoran_offsets(text)
        if not _JAMO.search(text):
            return [Span(offset, offset + 1) for offset in offsets]
        # Single jamo join the syllable before or after them: 다ㅋ counts as 닼.
        jamo_offsets = [offset for offset in offsets for _ in range(_num_jamo(text[offset]))]
        trimmed = "".join(text[offset] for offset in dict.fromkeys(offsets))
        areas = self._parser.getSyllableAreaList(self._parser.parse(trimmed))
        pairs = [(int(area.getFirst()), int(area.getSecond())) for area in areas]
        return [Span(jamo_offsets[begin], jamo_offsets[end - 1] + 1) for begin, end in pairs]


_JAMO = re.compile("[\u3131-\u318e]")  # Hangul compatibility jamo


def _num_jamo(char: str) -> int:
    """Return the number of jamo of a character: two or three for a syllable, else one."""
    return 1 if not "가" <= char <= "힣" else 2 + ((ord(char) - ord("가")) % 28 > 0)


def komoran_offsets(text: str) -> list[int]:
    """Return the offset in the line of each UTF-16 unit of Komoran's trimmed text.

    Komoran trims the line and reduces runs of blanks to one.

    >>> komoran_offsets("  가  😀나 ")
    [2, 3, 5, 5, 6]
    """
    blanks = "".join(map(chr, range(0x21)))  # as Java's String.trim
    begin, end = len(text) - len(text.lstrip(blanks)), len(text.rstrip(blanks))
    offsets: list[int] = []
    for offset in range(begin, end):
        if text[offset] != " " or text[offset - 1] != " ":
            offsets += [offset] * (2 if text[offset] > "\uffff" else 1)
    return offsets


class Hannanum(_Tagger):
    """Hannanum with nine tags, the default of konlpy; one Java object per thread.

    The dictionaries are loaded once; konlpy reloads them for every line.
    """

    jar = "jhannanum-0.8.4.jar"
    others = ("bin",)
    class_name = "kr.lucypark.jhannanum.hannanum.WorkflowFactory"
    _tagged = re.compile(r"(.+?/\w+)\+?")  # the pattern of konlpy

    def load(self, jpype: Any) -> None:
        """Create a workflow."""
        self._factory: Any = jpype.JClass(self.class_name)
        self._restart()

    def _restart(self) -> None:
        kind = self._factory.WORKFLOW_HMM_POS_TAGGER_09
        self._workflow: Any = self._factory.getPredefinedWorkflow(kind)
        self._workflow.activateWorkflow(False)

    def analyze_line(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        try:
            self._workflow.analyze(text)
            output = str(self._workflow.getResultOfDocument())
        except self.exceptions:
            self._restart()  # an interrupted workflow cannot be used again
            raise
        morphs: list[str] = []
        tags: list[str] = []
        eojeol: list[int] = []
        eojeol_at = eojeol_of_visible(text)
        position = 0
        for surface, reading in hannanum_units(output):
            for token in self._tagged.findall(reading.strip()):
                morph, tag = token.rsplit("/", 1)
                morphs.append(morph)
                tags.append(tag)
                eojeol.append(eojeol_at[min(position, len(eojeol_at) - 1)])
            position += len("".join(surface.split()))
        return Analysis(morphs, tags, eojeol, *status_and_dropped("".join(text.split())[position:]))


def hannanum_units(output: str) -> list[tuple[str, str]]:
    r"""Return (surface, reading) pairs from Hannanum's output, split as konlpy does.

    >>> hannanum_units("나는\n\t나/N+는/J\n\n간다\n\t가/P+ㄴ다/E\n\n\n")
    [('나는', '\t나/N+는/J'), ('간다', '\t가/P+ㄴ다/E')]
    """
    units: list[tuple[str, str]] = []
    unit: list[str] = []
    for line in (*output.strip().splitlines(), ""):
        if line:
            unit.append(line)
        else:
            units += [(unit[0], reading) for reading in unit[1:]]
            unit = []
    return units
