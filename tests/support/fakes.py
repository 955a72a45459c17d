"""Single lines of a corpus, an interruption, and a fake Kkma that needs no Java.

With the fake, the real worker process and pool take a tenth of the time.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest

from korlm.corpus.records import LineBlock
from korlm.dataset.executors import base
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.workers.pool import TokenizerPool


class Line(NamedTuple):
    """A single line of a corpus."""

    split: str
    doc_id: str
    line: int
    text: str


def one_by_one(blocks: Iterable[LineBlock]) -> list[Line]:
    """Return the single lines of blocks."""
    return [
        Line(
            *(block.split, block.doc_id(index)),
            *(1 if block.are_documents else block.first + index, text),
        )
        for block in blocks
        for index, text in enumerate(block.texts)
    ]


def packed(lines: Iterable[Line]) -> Iterator[LineBlock]:
    """Yield lines as blocks of consecutive lines of a document, like the corpus reader."""
    block: LineBlock | None = None
    for split, doc_id, number, text in lines:
        if (
            block is None
            or block[:2] != (split, doc_id)
            or block.first + len(block.texts) != number
        ):
            if block is not None:
                yield block
            block = LineBlock(split, doc_id, number, [])
        block.texts.append(text)
    if block is not None:
        yield block


# Replaces konlpy.tag in the child process. Some eojeols trigger failures:
#   JAVA! a Java exception     ALONE! the same if it is the only eojeol
#   DIE!  ends the process     DIE-ONCE! the same, once only
#   HANG! computes forever     SLOW! takes 0.1 s                    SPEAK! writes to stdout
#   WAIT! waits forever
TAG = '''
import os
import sys
import time
from pathlib import Path

import jpype

HERE = Path(__file__).parent
sys.modules["__main__"].ALIVE_SECONDS = 0.1  # of the worker
GOLDEN = {
    "아버지가방에들어가신다.": "아버지 가방 에 들어가 시 ㄴ다 .",
    "나는 학교에 갔다.": "나 는 학교 에 가 었 다 .",
    "영화가 정말 재미있었어요!": "영화 가 정말 재미있 었 어요 !",
}


class Morpheme:
    def __init__(self, text):
        self.text = text

    def getString(self):
        return self.text

    def getTag(self):
        return f"U+{ord(self.text[0]):04X}"


class Eojeol(list):
    def getExp(self):
        return "".join(morpheme.text for morpheme in self)


class Interface:
    """Every character is a morpheme."""

    def morphAnalyzer(self, text):
        if text in GOLDEN:
            surfaces = GOLDEN[text].split()
            if (HERE / "no_dictionary").exists():
                surfaces = [text]
            return [[Eojeol(map(Morpheme, surfaces))]]
        for eojeol in text.split():
            if eojeol == "JAVA!" or (eojeol == "ALONE!" and text != eojeol):
                raise jpype.JException("a Java exception")
            if eojeol == "DIE!" or (eojeol == "DIE-ONCE!" and not (HERE / "died").exists()):
                (HERE / "died").touch()
                print("a last word", file=sys.stderr)
                sys.stderr.flush()
                os._exit(3)
            while eojeol == "HANG!":
                pass
            if eojeol == "WAIT!":
                time.sleep(1000)
            if eojeol == "SLOW!":
                time.sleep(0.1)
            if eojeol == "SPEAK!":
                os.write(1, b"noise on stdout\\n")
                print("noise", file=sys.stderr)
        return [[Eojeol(map(Morpheme, eojeol)) for eojeol in text.split()]]


class Kkma:
    def __init__(self, max_heap_size):
        if (HERE / "no_java").exists():
            raise RuntimeError("no\\nJava")
        if (HERE / "dead_at_start").exists():
            print("not enough memory", file=sys.stderr)
            os._exit(1)
        self.jki = Interface()
'''

JPYPE = """
class JException(Exception):
    pass
"""


def interrupt_after(num_batches: int, monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Interrupt the tokenizing of a corpus after some batches, as Ctrl-C does.

    Returns:
        Number of the batch -> its number of lines, of the batches that will have been tokenized.
    """
    counts: Counter[int] = Counter()

    class InterruptedPool(TokenizerPool):
        def map(self, batches: Iterable[Sequence[str]]) -> Iterator[pa.RecordBatch]:
            for analyses in super().map(batches):
                if len(counts) >= num_batches:
                    raise KeyboardInterrupt
                counts[len(counts)] = len(analyses)
                yield analyses

    monkeypatch.setattr(base, "TokenizerPool", InterruptedPool)
    return counts


def faked(text: str) -> Analysis:
    """Return the fake Kkma's analysis of a harmless line."""
    units = text.split()
    if not units:
        return EMPTY
    morphs = [char for unit in units for char in unit]
    eojeol = [index for index, unit in enumerate(units) for _ in unit]
    return Analysis(morphs, [f"U+{ord(char):04X}" for char in morphs], eojeol)


def install_fake_kkma(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make child processes import the fake instead of konlpy and jpype.

    Returns:
        A folder; a file ``no_java``, ``no_dictionary`` or ``dead_at_start`` in it makes the fake
        fail at its start.
    """
    package = folder / "konlpy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "tag.py").write_text(TAG, encoding="utf-8")
    (folder / "jpype.py").write_text(JPYPE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return package
