"""The process of Kkma's fast engine: messages, errors, and its end."""

import os
import queue
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from korlm.config import KkmaConfig
from korlm.config.validation import Setting
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.columns import ANALYSIS, analyses_of
from korlm.tokenizers.kkma import process as process_module
from korlm.tokenizers.kkma.process import KkmaProcess, read_columns, read_list
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.tokenizers.workers.process import Batch, Job, Results
from korlm.utils.errors import TokenizerError

SECONDS = 60.0  # until a test gives up
TEXT = "나는 학교에 갔다."
MORPHS = ["나", "는", "학교", "에", "가", "었", "다", "."]


def config(threads: int = 1, heap_mb: int = 512) -> KkmaConfig:
    return KkmaConfig(name="kkma", threads=threads, heap_mb=heap_mb)


class Process:
    """A process and its messages."""

    def __init__(self, words: bytes | None = None) -> None:
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.child = KkmaProcess(config(), self.inbox, words)

    def answer(self) -> "tuple[dict[str, Any], Results | None] | None":
        """Return the next message; None at the end."""
        _, frame = self.inbox.get(timeout=SECONDS)
        return frame  # type: ignore[no-any-return]

    def analyze(self, texts: list[str], output: str | None = None) -> list[Analysis]:
        """Return the results of a batch that has no errors."""
        self.child.send(7, Job(texts, Batch(len(texts)), output=output))
        frame = self.answer()
        assert frame is not None and frame[1] is not None
        message, results = frame
        assert (message["id"], message["errors"]) == (7, [])
        assert isinstance(results, list) == (output is not None)
        if not isinstance(results, list):
            assert results.schema == ANALYSIS and results.validate(full=True) is None
            results = analyses_of(results)
        return [analysis._replace(seconds=0.0) for analysis in results]

    def write(self, data: bytes) -> None:
        assert self.child.process.stdin is not None
        self.child.process.stdin.write(data)
        self.child.process.stdin.flush()

    def end(self) -> int:
        """Close stdin; return the exit code."""
        assert self.child.process.stdin is not None
        self.child.process.stdin.close()
        return self.child.process.wait(timeout=SECONDS)


Start = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Process] = []

    def start(words: bytes | None = None, ready: bool = True) -> Process:
        process = Process(words)
        started.append(process)
        if ready:
            frame = process.answer()
            assert frame is not None and frame[0]["ready"] == process_module.NUM_ENTRIES
        return process

    yield start
    for process in started:
        process.child.close()


def test_columns_of_buffers() -> None:
    # Two lines with the tokens "가", "a" and none, padded to eight bytes each.
    numbers = [[0, 2, 2], [0, 3, 4], None, [0, 1, 1], None, [0, 4], [0, 2, 7], None, [0, 5]]
    texts = iter(["가a".encode(), b"N", b"okempty"])
    buffers = [
        next(texts) if n is None else b"".join(m.to_bytes(4, "little") for m in n) for n in numbers
    ]
    buffers += [b"\0\0\0\x3f" + bytes(4), b"\0\0\0\0" * 3, b""]  # seconds: 0.5 and 0
    data = b"".join(buffer + bytes(-len(buffer) % 8) for buffer in buffers)
    sizes = [len(buffer) for buffer in buffers]
    columns = read_columns(sizes, data)
    assert columns.validate(full=True) is None
    expected = [Analysis(["가", "a"], ["N", ""], [0, 4], "ok", 0, 0.5), EMPTY._replace(dropped=5)]
    assert analyses_of(columns) == read_list(sizes, data) == expected


@pytest.mark.jvm
def test_jobs(start: Start) -> None:
    process = start()
    tags = ["NP", "JX", "NNG", "JKM", "VV", "EPT", "EFN", "SF"]
    plain = Analysis(MORPHS, tags, [0, 0, 1, 1, 2, 2, 2, 2])
    assert process.analyze([TEXT, "", "\u3000\0", "😀\ud83d"]) == [
        *(plain, EMPTY, EMPTY),
        Analysis(["😀", "\ufffd"], ["SW", "SW"], [0, 0]),
    ]
    assert process.analyze([]) == process.analyze([], "tokens") == []
    # Only without an output, a blank line is what Python's is.
    assert [len(a.morphs) for a in process.analyze(["", " \t", "\u3000"], "tokens")] == [0, 0, 1]
    spans = (0, 1, 1, 2, 3, 5, 5, 6, 7, 8, 7, 8, 8, 9, 9, 10)
    assert process.analyze([TEXT], "spans") == [plain._replace(spans=spans)]
    none = ["", ""]
    assert process.analyze(["갔다. 학교"], "sentences") == [
        Analysis(["갔다.", "학교"], none, [0, 0])
    ]
    assert process.analyze(["학교, 나무, 학교"], "nouns") == [
        Analysis(["학교", "나무"], none, [0, 0])
    ]
    long = "가나다 " * 100_000
    assert [len(a.eojeol) for a in process.analyze([long, "", long])] == [100_000, 0, 100_000]


@pytest.mark.jvm
def test_user_words_come_first(start: Start) -> None:
    process = start("뽀시래기/NNG\n".encode())
    assert process.analyze(["뽀시래기가"])[0].morphs == ["뽀시래기", "가"]


@pytest.mark.jvm
@pytest.mark.parametrize("ready", [True, False])
def test_the_end_of_stdin_is_the_end(start: Start, ready: bool) -> None:
    process = start(ready=ready)
    process.write(b"\x09\0\0\0\x04\0\0\0broken")
    assert process.end() == 0
    while (frame := process.answer()) is not None:
        assert "ready" in frame[0]


@pytest.mark.jvm
def test_a_bug_ends_the_process_and_is_named(start: Start) -> None:
    process = start()
    process.write(b"\x07\0\0\0\0\0\0\x001 no xy")
    assert process.answer() is None
    assert process.child.process.wait(timeout=SECONDS) == 1
    assert process.child.exit_reason() == (
        'java.lang.NumberFormatException: For input string: "xy"'
    )


# In a pool


@pytest.fixture(scope="module")
def pool() -> Iterator[TokenizerPool]:
    with TokenizerPool(config(threads=2)) as pool:
        yield pool


@pytest.mark.jvm
def test_lines_that_fail_are_analyzed_in_parts(pool: TokenizerPool) -> None:
    batches = [["", "가나 다", " "], ["라"]]  # no such output exists
    status = "fallback: IllegalArgumentException"
    left = Analysis(["가", "나", "다"], ["UN"] * 3, [0, 0, 1], status)
    last = Analysis(["라"], ["UN"], [0], status)
    assert list(pool.map_lists(batches, "nothing")) == [[EMPTY, left, EMPTY], [last]]
    (columns,) = pool.map([[TEXT]])
    assert analyses_of(columns)[0].morphs == MORPHS


@pytest.mark.jvm
def test_a_process_that_is_killed_loses_nothing(pool: TokenizerPool) -> None:
    running = pool.map([TEXT, str(number)] for number in range(12))
    results = [analyses_of(next(running)) for _ in range(3)]
    (killed,) = pool._children
    os.kill(killed.process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    results += map(analyses_of, running)
    assert [result[0].morphs for result in results] == [MORPHS] * 12
    assert [result[1].morphs for result in results] == [[str(number)] for number in range(12)]
    assert pool._children != [killed]


def error_of(settings: KkmaConfig) -> str:
    """Return the error of a pool that does not start, and leaves no process."""
    with TokenizerPool(settings) as pool:
        with pytest.raises(TokenizerError) as caught:
            next(pool.map([["가"]]))
        assert pool._children == []
    return str(caught.value)


@pytest.mark.jvm
def test_an_incomplete_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(process_module, "NUM_ENTRIES", 7)
        assert error_of(config()) == (
            "Kkma did not start: Kkma's dictionary has 365048 entries: its dictionary is "
            "incomplete; set tokenizer.heap_mb more than 512"
        )
    monkeypatch.setattr(process_module, "SELF_TEST", {TEXT: "나"})
    message = f"Kkma analyzes {TEXT!r} as {' '.join(MORPHS)!r}, not '나': its dictionary is"
    assert message in error_of(config())


@pytest.mark.jvm
@pytest.mark.parametrize(
    ("heap", "reason"), [(24, r"java.lang.OutOfMemoryError: Java heap space"), (10**9, "heap")]
)
def test_a_heap_that_is_too_small_or_too_large(
    monkeypatch: pytest.MonkeyPatch, heap: int, reason: str
) -> None:
    monkeypatch.setattr(Setting, "allows", lambda *_: True)
    message = error_of(config(heap_mb=heap))
    begin, _, end = message.partition(" (")
    assert begin == "the worker of Kkma ended before it was ready" and reason in end
    assert end.endswith(f"); is there enough memory for tokenizer.heap_mb={heap}?")


@pytest.mark.skipif(sys.platform == "win32", reason="scripts are no programs here")
def test_a_wrong_java_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "java"
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert error_of(config()) == (
        f"Kkma did not start: JAVA_HOME={home}: no such folder; unset or correct it"
    )
    (home / "bin").mkdir(parents=True)
    assert f"JAVA_HOME={home}: there is no bin/java; unset or correct it" in error_of(config())
    (home / "bin" / "java").touch(0o755)
    (home / "release").write_text('JAVA_VERSION="1.8.0_402"\n')
    assert "Java 11 or later is needed: unset JAVA_HOME" in error_of(config())
