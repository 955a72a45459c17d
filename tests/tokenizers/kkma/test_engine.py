"""The fast engine of Kkma against KoNLPy's, in separate processes; hostile lines."""

import dataclasses
import importlib.util
import random
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

from korlm.config import CorpusConfig, KkmaConfig, KkmaEngine
from korlm.corpus.files import read_lines
from korlm.corpus.normalization import normalize
from korlm.corpus.sources import find_sources
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.columns import analyses_of
from korlm.tokenizers.kkma.process import JAR
from korlm.tokenizers.registry import tokenizer_version
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.errors import ConfigError


def config(
    engine: KkmaEngine = KkmaEngine.fast, threads: int = 2, limit_work: bool = True
) -> KkmaConfig:
    return KkmaConfig(name="kkma", engine=engine, threads=threads, limit_work=limit_work)


def test_the_version_starts_no_java() -> None:
    versions = {
        tokenizer_version(config(engine, 1, limit))
        for engine in KkmaEngine
        for limit in (False, True)
    }
    assert len(versions) == 4 and all(version.startswith("konlpy 0.") for version in versions)
    # A clock limits the lines of KoNLPy's own engine only.
    for slower, same in (
        (config(), True),
        (config(limit_work=False), True),
        (config(KkmaEngine.konlpy), False),
    ):
        slow = dataclasses.replace(slower, line_timeout_s=60.0)
        assert (tokenizer_version(slow) == tokenizer_version(slower)) == same
    assert "jpype" not in sys.modules


@pytest.mark.parametrize("key", ["workers", "threads"])
def test_too_many(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"tokenizer.{key}=257: must be in \[1, 256\]"):
        KkmaConfig(name="kkma", **{key: 257})  # type: ignore[arg-type]


# The jar


@pytest.fixture(scope="module")
def build_jar() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_jar", ROOT / "scripts" / "build_jar.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_jar_was_built_from_its_sources(
    build_jar: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build_jar.JAR == JAR
    built = (build_jar.source_digest(), build_jar.dictionary_digest())
    assert build_jar.built_digests() == built
    shutil.copytree(build_jar.FOLDER, tmp_path / "java")
    monkeypatch.setattr(build_jar, "FOLDER", tmp_path / "java")
    assert build_jar.source_digest() == built[0]
    with open(build_jar.sources()[0], "a") as file:
        file.write("// changed")
    assert build_jar.source_digest() != built[0]


# The fast engine

SIGNS = [
    "-^0_.<>¬'~(,;)", "ㅋㅠㅜㅎㅡ-_.^", "(T_T)>;oO_.^dbm3", "가나다라마바사아자차카타파하",
    "은는이가을를에서도만의로", "ㄱㄴㄷㄹㅁㅂㅇㅏㅑㅣㅢ", "하였했다니까요습니다었겠네",
    "0123456789,.-", "abcXYZ", " ", "  \t", "국회의원대통령영화감독", "年月日漢字",
    "★♥ⓒ㎡·…“”", "\u00a0\u3000ｱＡ！",
]  # fmt: skip

RANDOM = 200


def random_lines(seed: int, count: int) -> list[str]:
    """Return random lines of characters that Kkma has rules for."""
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        signs = rng.choice(SIGNS)
        line = ""
        for _ in range(rng.randrange(1, 25)):
            if rng.random() < 0.3:
                signs = rng.choice(SIGNS)
            line += rng.choice(signs)
        lines.append(line)
    return lines


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Return parts of the constitution and of a bill, and random text."""
    texts = []
    for path, count in (("kolaw/constitution.txt", 150), ("kobill/1809890.txt", 80)):
        (source,) = find_sources(CorpusConfig(name="x", files=["konlpy:" + path]))
        texts += [normalize(line) for line in list(read_lines(source.path))[:count]]
    return texts + random_lines(1, RANDOM)


def analyses(settings: KkmaConfig, lines: list[str], size: int = 50) -> list[Analysis]:
    batches = [lines[begin : begin + size] for begin in range(0, len(lines), size)]
    with TokenizerPool(settings) as pool:
        return [analysis for columns in pool.map(batches) for analysis in analyses_of(columns)]


@pytest.fixture(scope="module")
def fast(lines: list[str]) -> list[Analysis]:
    return analyses(config(threads=2), lines)


@pytest.mark.jvm
def test_the_fast_engine_equals_konlpy(lines: list[str], fast: list[Analysis]) -> None:
    plain = analyses(config(KkmaEngine.konlpy), lines)
    ended = [number for number, analysis in enumerate(plain) if analysis.status == "ok"]
    assert len(ended) > 0.7 * len(lines)
    for number in ended:
        assert fast[number][:2] == plain[number][:2], lines[number]
        assert fast[number].status == "ok" and fast[number].dropped == 0
    # Only konlpy raises Java exceptions (for two blanks between symbols).
    assert {a.status for a in fast} == {"ok", "empty"}
    # Kkma joins words across a blank; only the fast engine keeps their offsets.
    written = [n for n in ended if n < len(lines) - RANDOM]
    odd = [n for n in written if fast[n].eojeol != plain[n].eojeol]
    assert len(written) > 120 and len(odd) < len(written) / 50


@pytest.mark.jvm
def test_threads_change_nothing(lines: list[str], fast: list[Analysis]) -> None:
    # Other threads, other batches, another state of the cache of words.
    backwards = analyses(config(threads=8), lines[::-1], size=56)[::-1]
    for line, one, other in zip(lines, fast, backwards, strict=True):
        assert one[:5] == other[:5], line


LONG = 1 << 18
HOSTILE = {
    "": "empty",
    "   ": "empty",
    "\0": "empty",
    "\x01\x02\x1b\x7f": "empty",
    "\0가 간다\x01": "ok",
    "😀 나는 간다": "ok",
    "🇰🇷 👨‍👩‍👧‍👦": "ok",
    "가😀나": "ok",
    "\ud800 가": "ok",
    "\u200b\ufeff가\u200b": "ok",
    "a\xa0b\u3000c": "ok",
    "\u1112\u119e\u11ab\u1100\u1173\u11af 나랏말ᄊᆞ미": "ok",
    "대한".encode().decode() + "\u1103\u1162": "ok",
    "大韓民國 憲法": "ok",
    "مرحبا بالعالم": "ok",
    "가\t나\t다": "ok",
    "가\r나\x0b다\x85라\u2028마": "ok",
    "(((((((((((((((((": "ok",
    "http://example.org/?q=가&r=%20 #태그 @누구": "ok",
    "ㅋ" * 100_000: "ok",
    "ㅋㅠ" * 3000 + " 좋다": "ok",
    "a" * 40_000: "ok",
    "a" * 40_000 + " b-c": "ok",
    "1" + ",000" * 10_000: "ok",
    "a1" * 8_000: "cut: over budget",
    "가나다 " * (LONG // 40): "ok",
    "a b " * (LONG // 4): "ok",
    "아" * 16 + " 끝": "ok",
    "굿" * 16: "ok",
    "ㄷ" * 17: "ok",
    "사랑해" * 300: "ok",
    "ㄷ" * 40 + " 좋다": "cut: over budget",
    "나는 " + "뷁똠방" * 60 + " 간다": "cut: over budget",
    "황시욬" * 20: "cut: over budget",
    "ㄹㅇㄴㅁ" * 20: "cut: over budget",
}
SENTENCES = ["나는 학교에 갔다.", "대한민국은 민주공화국이다.", "날씨가 참 좋네요!"]


@pytest.mark.jvm
def test_hostile_lines() -> None:
    texts = [text for pair in zip(HOSTILE, SENTENCES * 20, strict=False) for text in pair]
    results = analyses(config(threads=2), texts + SENTENCES, size=9)
    plain = results[-3:]
    assert all(analysis.status == "ok" for analysis in plain)
    for number, (text, status) in enumerate(HOSTILE.items()):
        analysis = results[2 * number]
        assert analysis.status == status, text[:20]
        units = len(text.split())
        assert analysis.eojeol == sorted(analysis.eojeol), text[:20]
        assert all(0 <= index < units for index in analysis.eojeol), text[:20]
        assert "".join(analysis.morphs + analysis.tags).encode("utf-8") is not None
        if status.startswith("cut"):
            # The words around the one that was cut are not affected.
            assert "간다" not in text or analysis.morphs[-2:] == ["갈", "ㄴ다"]
            assert "좋다" not in text or analysis.morphs[-2:] == ["좋", "다"]
        assert results[2 * number + 1][:4] == plain[number % 3][:4], text[:20]
    by_text = dict(zip(texts, results, strict=False))
    assert by_text["😀 나는 간다"].morphs == ["😀", "나", "는", "갈", "ㄴ다"]
    assert by_text["\0가 간다\x01"].dropped == 2


@pytest.mark.jvm
def test_without_limit_work_a_word_over_budget_stays_whole() -> None:
    texts = ["나는 " + "ㄷ" * 60 + " 간다", SENTENCES[0]]
    first, second = analyses(config(threads=1, limit_work=False), texts)
    assert first.status == "fallback: over budget" and second.status == "ok"
    assert first.morphs == ["나", "는", "ㄷ" * 60, "갈", "ㄴ다"]
    assert first.tags[2] == "UN" and first.eojeol == [0, 0, 1, 2, 2]


@pytest.mark.jvm
def test_no_clock_ends_a_long_line() -> None:
    """The time limit has no effect: any line takes longer than a microsecond."""
    text = "학교에 간다. "
    settings = KkmaConfig(name="kkma", threads=1, line_timeout_s=1e-6)
    short, long = analyses(settings, [text, text * (128_000 // len(text))])
    count = 128_000 // len(text)
    assert short.status == long.status == "ok"
    assert long.morphs == short.morphs * count and long.tags == short.tags * count
    units = range(2 * count)
    assert long.eojeol == [2 * (n // 5) + short.eojeol[n % 5] for n in range(5 * count)]
    assert long.eojeol[-1] == units[-1] and long.dropped == 0
