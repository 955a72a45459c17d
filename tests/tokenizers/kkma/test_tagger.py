"""``korlm.Kkma``: its methods, and how it is used in threads and processes."""

import gc
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest
from conftest import ROOT

import korlm
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.kkma.tagger import BATCH_LINES, Kkma, Token
from korlm.utils.errors import ConfigError, KorlmError, TokenizerError


@pytest.fixture(scope="module")
def kkma() -> Iterator[Kkma]:
    with korlm.Kkma(threads=2) as tagger:
        yield tagger


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
    assert len(caplog.messages) == 2
    for message in caplog.messages:
        assert message.startswith("Kkma: the text '나는 ㄷㄷㄷ") and len(message) < 100
        assert message.endswith("ㄷ 간다' was analyzed in parts (cut: over budget)")


def test_warnings_name_the_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    losses = {"나": "cut: over budget", "너": "fallback: Java died", "\0": "lost: 1 characters"}

    class Pool:
        def map_lists(self, batches: Iterable[list[str]], output: str) -> Iterator[list[Analysis]]:
            for batch in list(batches):  # several batches in advance, as the real one
                yield [Analysis([text], ["UN"], [0], losses.get(text, "ok")) for text in batch]

    monkeypatch.setattr("korlm.tokenizers.kkma.tagger._State.pool", lambda *_: Pool())
    texts = ["가"] * BATCH_LINES + ["나", "가", *["가"] * BATCH_LINES, "너", "\0"]
    with caplog.at_level(logging.WARNING):
        assert [morph for (morph,) in Kkma().morphs(texts)] == texts
    assert caplog.messages == [
        "Kkma: the text '나' was analyzed in parts (cut: over budget)",
        "Kkma: the text '너' has parts that could not be analyzed; they are single tokens with "
        "the tag UN (fallback: Java died)",
        r"Kkma: the text '\x00' has characters that are in no token (lost: 1 characters)",
    ]


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_threads_of_a_forked_process_do_not_use_the_pool_of_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True True\n", "")


FORKED = """
import os
import threading
from korlm.tokenizers.kkma import tagger

class Pool:
    def __init__(self, *arguments):
        self.pid = os.getpid()

tagger.TokenizerPool = Pool
state = tagger._State()
state.pool(None, b"")
child = os.fork()
if child:
    os.waitpid(child, 0)
    os._exit(0)
second_is_done, first_makes_a_lock = threading.Event(), threading.Event()

class SlowThreading:
    @staticmethod
    def Lock():
        first_makes_a_lock.set()
        second_is_done.wait()
        return threading.Lock()

tagger.threading = SlowThreading
is_own = {}

def first():
    is_own[1] = state.pool(None, b"").pid == os.getpid()
    first_makes_a_lock.set()

def second():
    first_makes_a_lock.wait()
    is_own[2] = state.pool(None, b"").pid == os.getpid()
    second_is_done.set()

threads = [threading.Thread(target=first), threading.Thread(target=second)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(is_own[1], is_own[2], flush=True)
os._exit(0)
"""


def test_wrong_arguments() -> None:
    kkma = Kkma()
    for wrong in (None, 3, b"text", {"a": "b"}):
        with pytest.raises(TokenizerError, match=f"not {type(wrong).__name__}$"):
            kkma.morphs(cast(Any, wrong))
    with pytest.raises(KorlmError, match=r"text 0 \(from 0\) must be a str, not float"):
        list(kkma.nouns(cast(Any, [float("nan")])))
    with pytest.raises(ConfigError, match=r"^threads=0: must be in \[1, 256\]"):
        Kkma(threads=0)
    with pytest.raises(ConfigError, match=r"^threads=x: must be an integer or null"):
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
