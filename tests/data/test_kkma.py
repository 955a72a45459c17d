"""Kkma against KoNLPy itself, in a process of its own; what needs no Java, here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from korlm.config import KkmaConfig
from korlm.data.columns import Analysis
from korlm.data.kkma import eojeol_starts, kkma_version, unread
from korlm.data.tokenizer import tokenizer_version


def test_eojeol_starts() -> None:
    assert eojeol_starts(" 가나 다\xa0라 ") == [0, 0, 1, 2]
    assert eojeol_starts("  ") == []


def test_unread() -> None:
    assert unread("가나  다 ", "too slow") == Analysis(
        ["가나", "다"], ["UN", "UN"], [0, 1], "fallback: too slow"
    )


def test_kkma_version_starts_no_java() -> None:
    assert tokenizer_version(KkmaConfig(name="kkma")) == kkma_version()
    assert kkma_version().startswith("konlpy 0.")
    assert "jpype" not in sys.modules


COMPARE = """
import json, sys
from korlm.config import CorpusConfig
from korlm.data.corpus import find_sources
from korlm.data.kkma import KkmaTokenizer
from korlm.data.text_files import read_lines

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
