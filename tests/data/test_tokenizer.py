"""Tokens, tags and eojeols of one line; Kkma's against KoNLPy itself, in a process of its own."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from korlm.config import KkmaConfig, TokenizerConfig
from korlm.data.tokenizer import (
    BLANK,
    EMPTY,
    Analysis,
    EojeolTokenizer,
    SyllableTokenizer,
    build_simple,
    eojeol_starts,
    kkma_version,
    tokenizer_version,
    unread,
)

SIMPLE = [EojeolTokenizer(), SyllableTokenizer()]
BLANKS = ["", " ", "\t \u3000", "\xa0", "\0\x1f", "\r"]


def test_eojeol() -> None:
    assert EojeolTokenizer().analyze(" 나는\t학교에 \xa0 간다. ") == Analysis(
        ["나는", "학교에", "간다."], ["", "", ""], [0, 1, 2], "ok"
    )


def test_syllable() -> None:
    assert SyllableTokenizer().analyze("나는 a\xa0b") == Analysis(
        ["나", "는", BLANK, "a", BLANK, "b"], [""] * 6, [0, 0, 0, 1, 1, 2], "ok"
    )


@pytest.mark.parametrize(
    ("text", "morphs", "eojeol"),
    [
        ("가", "가", [0]),
        ("가  나", "가▁▁나", [0, 0, 1, 1]),
        (" 가 나", "▁가▁나", [0, 0, 0, 1]),
        ("가\t나\u3000 ", "가▁나▁▁", [0, 0, 1, 1, 1]),  # there is no third eojeol
        ("가\u200b나", "가\u200b나", [0, 0, 0]),
        ("😀👍🏽 ㅋ", "😀👍🏽▁ㅋ", [0, 0, 0, 0, 1]),
        ("a▁b c", "a▁b▁c", [0, 0, 0, 0, 1]),
    ],
)
def test_syllables_know_their_eojeol(text: str, morphs: str, eojeol: list[int]) -> None:
    analysis = SyllableTokenizer().analyze(text)
    assert analysis.morphs == list(morphs)
    assert analysis.eojeol == eojeol


@pytest.mark.parametrize("tokenizer", SIMPLE, ids=lambda t: t.name)
@pytest.mark.parametrize("text", BLANKS)
def test_blank_lines(tokenizer: EojeolTokenizer, text: str) -> None:
    assert tokenizer.analyze(text) == EMPTY == ([], [], [], "empty")
    assert tokenizer.tokenize(text) == []


@pytest.mark.parametrize("tokenizer", SIMPLE, ids=lambda t: t.name)
def test_properties_of_simple_tokenizers(tokenizer: EojeolTokenizer) -> None:
    dice = random.Random(7)
    texts = ["".join(dice.choices("가나 \t\xa0\u3000a▁.😀\u0301", k=n % 30)) for n in range(400)]
    analyses = tokenizer.analyze_batch(texts)
    assert analyses == [tokenizer.analyze(text) for text in texts]
    for text, (morphs, tags, eojeol, status) in zip(texts, analyses, strict=True):
        assert len(morphs) == len(tags) == len(eojeol)
        assert morphs == tokenizer.tokenize(text)
        assert (status == "empty") == (not morphs) == (not text.split())
        assert eojeol == sorted(eojeol)
        # The tokens of an eojeol, blanks aside, are that eojeol.
        units = text.split()
        surfaces = text if tokenizer.name == "syllable" else units
        rebuilt = [""] * len(units)
        for surface, index in zip(surfaces if units else [], eojeol, strict=True):
            rebuilt[index] += surface.strip()
        assert rebuilt == units


def test_text_can_be_rebuilt_but_for_blanks() -> None:
    text = "나는 \t학교에\xa0간다. "
    assert " ".join(EojeolTokenizer().tokenize(text)) == "나는 학교에 간다."
    assert "".join(SyllableTokenizer().tokenize(text)).replace(BLANK, " ") == "나는  학교에 간다. "


def test_eojeol_starts() -> None:
    assert eojeol_starts(" 가나 다\xa0라 ") == [0, 0, 1, 2]
    assert eojeol_starts("  ") == []


def test_unread() -> None:
    assert unread("가나  다 ", "too slow") == Analysis(
        ["가나", "다"], ["UN", "UN"], [0, 1], "fallback: too slow"
    )


def test_simple_tokenizers_by_name() -> None:
    for name, kind in (("eojeol", EojeolTokenizer), ("syllable", SyllableTokenizer)):
        made = build_simple(TokenizerConfig(name=name))
        assert isinstance(made, kind) and made.name == name
        assert tokenizer_version(TokenizerConfig(name=name)) == made.version
    assert build_simple(KkmaConfig(name="kkma")) is None


def test_kkma_version_starts_no_java() -> None:
    assert tokenizer_version(KkmaConfig(name="kkma")) == kkma_version()
    assert kkma_version().startswith("konlpy 0.")
    assert "jpype" not in sys.modules


COMPARE = """
import json, sys
from korlm.config import CorpusConfig
from korlm.data.corpus import find_sources
from korlm.data.text_files import read_lines
from korlm.data.tokenizer import KkmaTokenizer

tokenizer = KkmaTokenizer(1024)
from konlpy.tag import Kkma

kkma = Kkma()
differing, lines, wrong_eojeol, status = [], 0, [], set()
for place, count in (("kolaw/constitution.txt", 40), ("kobill/1809890.txt", 100)):
    (source,) = find_sources(CorpusConfig(name="x", files=["konlpy:" + place]))
    for text in list(read_lines(source.path))[:count]:
        lines += 1
        analysis = tokenizer.analyze(text)
        # Kkma().morphs of blanks alone is a Java NullPointerException.
        morphs, pos = (kkma.morphs(text), kkma.pos(text)) if text.strip() else ([], [])
        if analysis.morphs != morphs or list(zip(analysis.morphs, analysis.tags)) != pos:
            differing.append(text)
        if tokenizer.tokenize(text) != morphs:
            differing.append(text)
        units = text.split()
        rising = analysis.eojeol == sorted(analysis.eojeol)
        if not rising or set(analysis.eojeol) != set(range(len(units))):
            wrong_eojeol.append(text)
        status.add(analysis.status)
one = tokenizer.analyze("나는 학교에  갔다.")
json.dump(
    {
        "lines": lines,
        "differing": differing,
        "wrong_eojeol": wrong_eojeol,
        "status": sorted(status),
        "one": [one.morphs, one.eojeol],
    },
    sys.stdout,
)
"""


@pytest.mark.jvm
def test_kkma_equals_konlpy(tmp_path: Path) -> None:
    script = tmp_path / "compare.py"
    script.write_text(COMPARE, encoding="utf-8")
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {
        "lines": 140,
        "differing": [],
        "wrong_eojeol": [],
        "status": ["empty", "ok"],
        "one": [["나", "는", "학교", "에", "가", "었", "다", "."], [0, 0, 1, 1, 2, 2, 2, 2]],
    }
