"""The pool returns a result for every line, in order, also when workers die or hang."""

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fakes import faked, install_fake_kkma

from korlm.config import KkmaConfig, KkmaEngine, TokenizerConfig, WorkerConfig
from korlm.config.validation import Setting
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.columns import analyses_of
from korlm.tokenizers.text_units import EojeolTokenizer
from korlm.tokenizers.workers import pool as pool_module
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.tokenizers.workers.process import Batch, Job, WorkerProcess
from korlm.tokenizers.workers.protocol import HEAD
from korlm.utils.errors import ConfigError, TokenizerError


def kkma(**changes: Any) -> KkmaConfig:
    """Return settings, by default for the fake Kkma."""
    settings: dict[str, Any] = {"threads": 2, "heap_mb": 1024, "limit_work": False}
    settings |= {"name": "kkma", "engine": KkmaEngine.konlpy}
    return KkmaConfig(**{**settings, **changes})


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the fake Kkma for workers; fakes.py lists the eojeols that make it fail."""
    return install_fake_kkma(tmp_path / "fake", monkeypatch)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenizerPool]:
    """Return a pool with the fake Kkma for tests that do not end its worker."""
    with TokenizerPool(kkma(threads=2)) as pool:
        # Other pools must not use the fake: start the worker now.
        with pytest.MonkeyPatch.context() as patch:
            install_fake_kkma(tmp_path_factory.mktemp("shared"), patch)
            map_one(pool, ["가"])
        yield pool


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie has ended.
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(") ", 1)[-1].startswith("Z"))


def pids(pool: TokenizerPool) -> list[int]:
    return [child.process.pid for child in pool._children]


def map_one(pool: TokenizerPool, texts: Sequence[str]) -> list[Analysis]:
    (results,) = map_all(pool, [texts])
    return results


def map_all(pool: TokenizerPool, batches: Iterable[Sequence[str]]) -> list[list[Analysis]]:
    return [timeless(columns) for columns in pool.map(batches)]


def timeless(columns: pa.RecordBatch) -> list[Analysis]:
    return [analysis._replace(seconds=0.0) for analysis in analyses_of(columns)]


def error_of(config: TokenizerConfig) -> str:
    """Return the error, in one line, of a pool that does not start and leaves no process."""
    with TokenizerPool(config) as pool:
        with pytest.raises(TokenizerError) as caught:
            map_one(pool, ["가"])
        started = pids(pool)
    assert not any(map(is_alive, started))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Tokenizers in this process


def test_simple_tokenizers_keep_the_order() -> None:
    batches = [[f"{number} {part}" for part in range(number % 4)] for number in range(200)]
    with TokenizerPool(TokenizerConfig(name="eojeol")) as pool:
        results = list(pool.map(batches))
    assert results == [EojeolTokenizer().analyze_batch(batch) for batch in batches]
    assert list(map(analyses_of, results)) == [
        [EojeolTokenizer().analyze(text) for text in batch] for batch in batches
    ]


@pytest.mark.parametrize("name", ["eojeol", "syllable", "jamo"])
def test_simple_tokenizers_of_nothing(name: str) -> None:
    with TokenizerPool(TokenizerConfig(name=name)) as pool:
        assert list(pool.map([])) == []
        assert map_all(pool, [[]]) == [[]]
        assert map_all(pool, [[""], []]) == [[EMPTY], []]


def test_simple_tokenizers_read_lazily() -> None:
    taken: list[int] = []

    def batches() -> Iterator[list[str]]:
        for number in range(10):
            taken.append(number)
            yield ["가"]

    with TokenizerPool(TokenizerConfig(name="eojeol")) as pool:
        next(pool.map(batches()))
    assert taken == [0]


def test_threads_share_a_simple_tokenizer() -> None:
    config = TokenizerConfig(name="eojeol")
    with ThreadPoolExecutor(1) as other_thread, TokenizerPool(config) as pool:
        running = pool.map([["가"], ["나"]])
        next(running)
        other_thread.submit(running.close).result()
        running = pool.map([["가"], ["나"]])
        next(running)
        assert other_thread.submit(map_one, pool, ["다"]).result() == [Analysis(["다"], [""], [0])]
        assert timeless(next(running)) == [Analysis(["나"], [""], [0])]


def test_unknown_tokenizer() -> None:
    with pytest.raises(
        ConfigError, match=r"tokenizer\.name=nothing: must be eojeol or jamo or syllable"
    ):
        TokenizerConfig(name="nothing")
    config = TokenizerConfig(name="eojeol")
    config.name = "nothing"
    with pytest.raises(ConfigError, match=r"tokenizer=nothing: must be one of"):
        TokenizerPool(config)


# Worker processes with the fake Kkma


@pytest.mark.parametrize(("workers", "threads"), [(1, 3), (2, 1)])
def test_order(fake: Path, workers: int, threads: int) -> None:
    # Later batches are finished before slow ones.
    batches = [
        [f"{number} {part}" + " SLOW!" * (number in (0, 7)) for part in range(1 + number % 5 // 4)]
        for number in range(40)
    ]
    with TokenizerPool(kkma(workers=workers, threads=threads)) as pool:
        results = map_all(pool, batches)
        assert len(pids(pool)) == workers
    assert results == [[faked(text) for text in batch] for batch in batches]


def test_nothing_to_do_starts_no_process(fake: Path) -> None:
    with TokenizerPool(kkma()) as pool:
        assert list(pool.map([])) == []
        assert pids(pool) == []


def test_blank_lines_and_empty_batches(shared: TokenizerPool) -> None:
    batches = [[], ["", " \t", "\0"], ["가", "", "나"], []]
    assert map_all(shared, batches) == [[], [EMPTY] * 3, [faked("가"), EMPTY, faked("나")], []]


def test_few_batches_are_in_flight(shared: TokenizerPool) -> None:
    taken = 0

    def batches() -> Iterator[list[str]]:
        nonlocal taken
        for _ in range(50):
            taken += 1
            yield ["가"]

    ahead = [taken - number for number, _ in enumerate(shared.map(batches()), 1)]
    # Two threads and two batches that wait for them, at most.
    assert 1 <= max(ahead) <= 4


def test_a_pool_serves_several_maps(shared: TokenizerPool) -> None:
    started = pids(shared)
    assert map_one(shared, ["가 나"]) == [faked("가 나")]
    assert map_one(shared, ["다"]) == [faked("다")]
    assert pids(shared) == started


def test_a_map_that_was_left_does_not_spoil_the_next(fake: Path) -> None:
    with TokenizerPool(kkma()) as pool:
        left = pool.map([f"old {number} SLOW!"] for number in range(9))
        next(left)
        left.close()
        batches = [[f"new {number}"] for number in range(9)]
        assert map_all(pool, batches) == [[faked(text) for text in batch] for batch in batches]


def test_maps_of_one_thread_may_overlap(fake: Path) -> None:
    with TokenizerPool(kkma()) as pool:
        outer = pool.map([f"{number} SLOW!"] for number in range(6))
        for number, columns in enumerate(outer):
            assert timeless(columns) == [faked(f"{number} SLOW!")]
            assert map_one(pool, [f"가 {number}"]) == [faked(f"가 {number}")]
    assert number == 5


def test_a_pool_may_be_closed_by_another_thread(fake: Path) -> None:
    pool = TokenizerPool(kkma(threads=1))
    running = pool.map([["가"], ["HANG!"]])
    next(running)
    closing = threading.Timer(0.2, pool.__exit__)
    closing.start()
    with pytest.raises(TokenizerError, match=r"Kkma: its pool was closed"):
        next(running)
    closing.join()
    assert pids(pool) == []
    assert map_one(pool, ["나"]) == [faked("나")]  # with a new process
    pool.__exit__()


def test_after_an_error_a_pool_restarts(fake: Path) -> None:
    (fake / "no_java").touch()
    with TokenizerPool(kkma()) as pool:
        waiting = pool.map([["가"]])
        with pytest.raises(TokenizerError, match="Java did not start: no Java"):
            next(waiting)
        assert pids(pool) == []
        (fake / "no_java").unlink()
        assert map_one(pool, ["가"]) == [faked("가")]


def test_java_exceptions_become_a_status(shared: TokenizerPool) -> None:
    texts = ["가 나", "다 JAVA! 라", "ALONE!  마", "JAVA!", "바"]
    results = map_one(shared, texts)
    why = "fallback: JException"
    assert results == [
        faked("가 나"),
        Analysis(["다", "JAVA!", "라"], ["U+B2E4", "UN", "U+B77C"], [0, 1, 2], why),
        faked("ALONE! 마")._replace(status="cut: JException"),
        Analysis(["JAVA!"], ["UN"], [0], why),
        faked("바"),
    ]


def test_a_line_that_hangs(fake: Path, caplog: pytest.LogCaptureFixture) -> None:
    batches = [["가", "나 HANG! 다", "라", "HANG! 1", "HANG! 2"], ["마"], ["HANG!", "바"], ["사"]]
    with TokenizerPool(kkma(line_timeout_s=0.4)) as pool, caplog.at_level(logging.WARNING):
        results = map_all(pool, batches)
    why = "fallback: too slow"
    assert results == [
        [
            faked("가"),
            Analysis(["나", "HANG!", "다"], ["U+B098", "UN", "U+B2E4"], [0, 1, 2], why),
            faked("라"),
            Analysis(["HANG!", "1"], ["UN", "U+0031"], [0, 1], why),
            Analysis(["HANG!", "2"], ["UN", "U+0032"], [0, 1], why),
        ],
        [faked("마")],
        [Analysis(["HANG!"], ["UN"], [0], why), faked("바")],
        [faked("사")],
    ]
    assert "0.4 s" in caplog.text and "나 HANG! 다" in caplog.text
    assert "on a slow machine, raise tokenizer.line_timeout_s" in caplog.text


def test_a_worker_that_dies_once_loses_nothing(
    fake: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batches = [[f"{number}", "DIE-ONCE!" if number == 3 else "가"] for number in range(12)]
    with TokenizerPool(kkma()) as pool:
        results = map_all(pool, batches)
    assert results == [[faked(text) for text in batch] for batch in batches]
    assert "died (a last word)" in caplog.text


def test_a_worker_that_is_killed_loses_nothing(fake: Path) -> None:
    batches = [[f"{number}", "SLOW! 가", "나"] for number in range(8)]
    with TokenizerPool(kkma()) as pool:
        running = pool.map(batches)
        results = [timeless(next(running)) for _ in range(3)]
        (killed,) = pids(pool)
        os.kill(killed, getattr(signal, "SIGKILL", signal.SIGTERM))
        results += map(timeless, running)
        assert pids(pool) != [killed]
    assert results == [[faked(text) for text in batch] for batch in batches]


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows has no SIGSTOP")
def test_a_worker_that_was_stopped_is_missed_though_another_one_talks(
    fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the other worker may be silent as long: without a clock that costs nothing.
    monkeypatch.setattr(pool_module, "has_time_limit", lambda config: False)
    batches = [[f"{number}", "SLOW! 가", "나"] for number in range(12)]
    with TokenizerPool(kkma(workers=2, line_timeout_s=60.0)) as pool:
        running = pool.map(batches)
        results = [timeless(next(running)) for _ in range(3)]
        stopped, _ = pids(pool)
        replace_worker = pool._replace_worker

        def replace(child: WorkerProcess, jobs: list[Job]) -> None:
            if child.process.pid == stopped:  # its successor may start slowly
                monkeypatch.setattr(pool_module, "START_SECONDS", 300.0)
            replace_worker(child, jobs)

        monkeypatch.setattr(pool, "_replace_worker", replace)
        monkeypatch.setattr(pool_module, "START_SECONDS", 2.0 - 60.0)
        os.kill(stopped, signal.SIGSTOP)
        results += map(timeless, running)
        assert stopped not in pids(pool)
    assert results == [[faked(text) for text in batch] for batch in batches]


class TalkingProcess(WorkerProcess):
    """A process that sends ``alive`` twice, and an answer, when a job comes, and then ends."""

    def _start(
        self, config: WorkerConfig, tokenizer_model: bytes | None
    ) -> subprocess.Popen[bytes]:
        frames = [*[b'{"alive": true}'] * 2, b'{"id": 7}']
        output = b"".join(HEAD.pack(len(frame), 0) + frame for frame in frames)
        program = f"import sys; sys.stdin.buffer.read(1); sys.stdout.buffer.write({output!r})"
        return self._popen([sys.executable, "-c", program], dict(os.environ))


def test_the_inbox_of_an_idle_pool_does_not_grow() -> None:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    child = TalkingProcess(WorkerConfig(name="kiwi"), inbox)
    child.silent = 5.0
    child.send(7, Job(["가"], Batch(1)))
    assert inbox.get(timeout=60) == (child, ({"id": 7}, None))
    assert child.silent == 0.0
    assert inbox.get(timeout=60) == (child, None)
    child.close()


@pytest.mark.parametrize("engine", list(KkmaEngine))
def test_silence_is_no_fault_of_a_line_without_a_clock(
    fake: Path, monkeypatch: pytest.MonkeyPatch, engine: KkmaEngine
) -> None:
    monkeypatch.setattr(pool_module, "has_time_limit", lambda config: engine is KkmaEngine.konlpy)
    with TokenizerPool(kkma(threads=1)) as pool:
        running = pool.map([["가"], ["나 SLOW! 다"], ["라"]])
        assert timeless(next(running)) == [faked("가")]
        for _ in range(4):
            (child,) = pool._children
            while not child.ready:
                pool._step()
            pool._on_worker_lost(child, silent=True)
        assert timeless(next(running)) == [
            faked("나 SLOW! 다")
            if engine is KkmaEngine.fast
            else faked("나 SLOW! 다")._replace(status="cut: Java died")
        ]


@pytest.mark.parametrize("silent", [False, True])
def test_workers_that_die_again_and_again(
    fake: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr(pool_module, "MAX_DEATHS", 3)
    monkeypatch.setattr(pool_module, "has_time_limit", lambda config: False)
    with TokenizerPool(kkma(threads=1)) as pool:
        assert map_one(pool, ["가"]) == [faked("가")]
        for number in range(4):
            (child,) = pool._children
            child.ready = silent
            if number == 3:
                with pytest.raises(TokenizerError, match="died again and again"):
                    pool._on_worker_lost(child, silent)
            else:
                pool._on_worker_lost(child, silent)


@pytest.mark.parametrize("engine", list(KkmaEngine), ids=lambda engine: engine.value)
def test_engines_with_a_time_limit(engine: KkmaEngine) -> None:
    assert pool_module.has_time_limit(kkma(engine=engine)) == (engine is KkmaEngine.konlpy)
    assert pool_module.has_time_limit(WorkerConfig(name="kiwi"))


def test_threads_share_a_pool(fake: Path) -> None:
    results: dict[str, list[Analysis]] = {}

    def read(name: str, pool: TokenizerPool) -> None:
        for number in range(10):
            text = f"{name} {number}"
            results[text] = map_one(pool, [text, name])

    with TokenizerPool(kkma(threads=2)) as pool:
        started = [threading.Thread(target=read, args=(name, pool)) for name in "가나다라"]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
    assert len(results) == 40
    for text, analyses in results.items():
        assert analyses == [faked(text), faked(text[0])]


def test_a_batch_that_always_ends_java_is_given_up_alone(fake: Path) -> None:
    # Other batches are in progress each time.
    batches = [[f"{number} 가", "나 DIE!" if number == 4 else "SLOW! 다"] for number in range(9)]
    with TokenizerPool(kkma()) as pool:
        results = map_all(pool, batches)
    expected = [[faked(text) for text in batch] for batch in batches]
    died = Analysis(["나", "DIE!"], ["U+B098", "UN"], [0, 1], "fallback: Java died")
    expected[4][1] = died
    assert results == expected


@pytest.mark.parametrize("limit_work", [False, True])
def test_several_lines_of_a_batch_end_java_or_hang(fake: Path, limit_work: bool) -> None:
    batches = [["가", "나 DIE! 다", "", "HANG!", "DIE! HANG! 사", "아"], ["자 차"]]
    with TokenizerPool(kkma(line_timeout_s=0.5, limit_work=limit_work)) as pool:
        results = map_all(pool, batches)
    if limit_work:  # the fake can analyze any part of an eojeol
        kind, died, hung, both = "cut", faked("나 DIE! 다"), faked("HANG!"), faked("DIE! HANG! 사")
    else:
        kind = "fallback"
        died = Analysis(["나", "DIE!", "다"], ["U+B098", "UN", "U+B2E4"], [0, 1, 2])
        hung = Analysis(["HANG!"], ["UN"], [0])
        both = Analysis(["DIE!", "HANG!", "사"], ["UN", "UN", "U+C0AC"], [0, 1, 2])
    assert results == [
        [
            faked("가"),
            died._replace(status=f"{kind}: Java died"),
            EMPTY,
            hung._replace(status=f"{kind}: too slow"),
            both._replace(status=f"{kind}: Java died, too slow"),
            faked("아"),
        ],
        [faked("자 차")],
    ]


def test_the_time_of_a_line_counts_the_workers_it_ended(fake: Path) -> None:
    with TokenizerPool(kkma(threads=1, line_timeout_s=0.5)) as pool:
        (columns,) = pool.map([["가", "나 HANG! 다"]])
    seconds = columns["seconds"].to_pylist()
    assert seconds[0] < 0.5 and 1.0 <= seconds[1] < 1.5  # as a whole, then alone


def test_a_batch_of_slow_lines_is_no_dead_worker(
    fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"SLOW! {number}" for number in range(20)]
    with TokenizerPool(kkma(threads=1, line_timeout_s=0.8)) as pool:
        map_one(pool, ["가"])  # its start is not limited
        started = pids(pool)
        monkeypatch.setattr(pool_module, "START_SECONDS", 0.8)
        assert map_one(pool, texts) == [faked(text) for text in texts]
        assert pids(pool) == started


def test_a_line_that_is_done_as_it_is_called_slow(shared: TokenizerPool) -> None:
    (child,) = shared._children
    shared._process(child, {"id": 10**6, "stuck": 0}, None)
    assert shared._children == [child]
    assert map_one(shared, ["가"]) == [faked("가")]


def test_a_dictionary_that_did_not_load(fake: Path) -> None:
    (fake / "no_dictionary").touch()
    message = error_of(kkma(heap_mb=600))
    assert "tokenizer.heap_mb more than 600" in message and "아버지가방에들어가신다." in message


def test_a_worker_that_dies_as_it_starts(fake: Path) -> None:
    (fake / "dead_at_start").touch()
    message = error_of(kkma(workers=2, heap_mb=4096))
    assert "not enough memory" in message and "tokenizer.heap_mb=4096" in message


def test_a_worker_that_never_becomes_ready(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "START_SECONDS", 0.0)
    assert "ended before it was ready" in error_of(kkma(line_timeout_s=0.01))


def test_a_wrong_java_home(fake: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    assert f"JAVA_HOME={tmp_path / 'nowhere'}" in error_of(kkma())


def test_no_process_is_left(fake: Path) -> None:
    class MyError(Exception):
        pass

    started = []
    with pytest.raises(MyError), TokenizerPool(kkma(workers=2)) as pool:
        for number, _ in enumerate(pool.map([["가"], ["HANG!"], ["나"], ["다"]])):
            started = pids(pool)
            if number == 0:
                raise MyError
    assert len(started) == 2
    assert not any(map(is_alive, started))


def test_an_error_of_the_text_is_raised(fake: Path) -> None:
    def batches() -> Iterator[list[str]]:
        yield ["가"]
        raise ValueError("bad text")

    with pytest.raises(ValueError, match="bad text"), TokenizerPool(kkma()) as pool:
        list(pool.map(batches()))


ORPHAN = """
import os
from korlm.config import KkmaEngine, KkmaConfig
from korlm.tokenizers.workers.pool import TokenizerPool

pool = TokenizerPool(KkmaConfig(name="kkma", engine=KkmaEngine.konlpy, workers=2, threads=1))
results = pool.map([["a"], ["b"], ["HANG!"], ["HANG!"]])
next(results)
print(*[child.process.pid for child in pool._children], flush=True)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill(pid, 0) ends a process here")
def test_workers_end_with_their_parent(fake: Path) -> None:
    source = str(Path(pool_module.__file__).resolve().parents[3])
    path = os.pathsep.join([source, os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    orphans = list(map(int, done.stdout.split()))
    assert len(orphans) == 2
    deadline = time.monotonic() + 10
    while any(map(is_alive, orphans)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, orphans))


# Kkma itself

SENTENCES = ["나는 학교에 갔다.", "대한민국은 민주공화국이다.", "밥을 먹었다.", "날씨가 참 좋네요!"]
HOSTILE = {
    "": [],
    "   ": [],
    "\xa0\u3000": [],
    "\0": [],
    "\x01\x02\x1b\x7f": [],
    "\0가": ["가"],
    "😀 나는 간다": ["😀", "나", "는", "갈", "ㄴ다"],
    "🇰🇷 👨‍👩‍👧‍👦": ["🇰🇷", "👨‍👩‍👧‍👦"],
    "가😀나": None,
    "ㅋ" * 3000: None,
    "\u1112\u119e\u11ab\u1100\u1173\u11af 나랏말ᄊᆞ미": None,
    "大韓民國 憲法": ["大韓民國", "憲法"],
    "a\xa0b\u3000c": None,
    "\u200b\ufeff": None,
    "(((((((((((((((((": None,
    "http://example.org/?q=가&r=%20 #태그 @누구": None,
    "\ufffd\U0010ffff": None,
    "é ñ ß Ω Я あ ア ك": None,
}


@pytest.fixture(scope="module")
def java() -> Iterator[TokenizerPool]:
    """Return a pool with the real Kkma."""
    with TokenizerPool(kkma(threads=2, line_timeout_s=3.0)) as pool:
        yield pool


@pytest.mark.jvm
def test_hostile_lines(java: TokenizerPool) -> None:
    plain = map_one(java, SENTENCES)
    assert all(analysis.status == "ok" for analysis in plain)
    assert plain[0].morphs == ["나", "는", "학교", "에", "가", "었", "다", "."]
    texts = [text for pair in zip(HOSTILE, SENTENCES * 9, strict=False) for text in pair]
    results = map_one(java, texts)
    assert results[1::2] == [plain[number % 4] for number in range(len(HOSTILE))]
    for (text, expected), (morphs, tags, eojeol, status, *_) in zip(
        HOSTILE.items(), results[::2], strict=True
    ):
        assert len(morphs) == len(tags) == len(eojeol), text
        assert (status == "empty") == (expected == []), text
        assert status in ("ok", "empty") or status.startswith("fallback: "), text
        assert expected is None or morphs == expected, text
        assert all(0 <= index < len(text.split()) for index in eojeol), text
        # Tokens have no lone surrogates, which Java may return for emoji.
        assert "".join(morphs + tags).encode("utf-8") is not None


@pytest.mark.jvm
def test_a_line_on_which_kkma_hangs(java: TokenizerPool) -> None:
    """Its worker is killed twice; the other lines are analyzed by the next one."""
    plain = map_one(java, SENTENCES)
    killed = pids(java)
    hanging = "아" * 20  # alone it would take hours
    batches = [[*SENTENCES[:2], f"{hanging} 끝", *SENTENCES[2:]], SENTENCES]
    results = map_all(java, batches)
    slow = results[0].pop(2)
    assert (slow.morphs, slow.tags[0]) == ([hanging, "끝"], "UN")
    assert slow.tags[1] != "UN" and slow.status == "fallback: too slow"
    assert results == [plain, plain]
    assert pids(java) != killed and not any(map(is_alive, killed))


@pytest.mark.jvm
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_crash_of_java_leaves_nothing_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("here", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    with TokenizerPool(kkma(threads=1, engine=KkmaEngine.fast, limit_work=True)) as pool:
        first = map_one(pool, SENTENCES)
        (child,) = pool._children
        os.kill(child.process.pid, signal.SIGSEGV)
        child.process.wait()
        assert map_all(pool, [SENTENCES, SENTENCES]) == [first, first]
    assert "died (SIGSEGV" in caplog.text
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.jvm
def test_a_heap_larger_than_any_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # The bound of the setting is within reach of some machines.
    monkeypatch.setattr(Setting, "allows", lambda *_: True)
    message = error_of(kkma(heap_mb=10**9))
    assert "tokenizer.heap_mb=1000000000" in message


def test_a_worker_that_is_killed_as_it_starts_again(fake: Path) -> None:
    batches = [[f"{number}", "SLOW! 가"] for number in range(6)]
    with TokenizerPool(kkma(threads=1)) as pool:
        running = pool.map(batches)
        results = [timeless(next(running))]
        for _ in range(2):  # the second one is not ready yet
            (child,) = pool._children
            child.process.kill()
            pool._on_worker_lost(child)
        results += map(timeless, running)
    assert results == [[faked(text) for text in batch] for batch in batches]
