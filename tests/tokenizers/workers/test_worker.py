"""The worker process: messages, results, time limits, and its end when stdin ends."""

import contextlib
import dataclasses
import io
import os
import queue
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fakes import faked, install_fake_kkma

from korlm.config import KkmaConfig, KkmaEngine
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.columns import ANALYSIS, analyses_of, unpack
from korlm.tokenizers.workers.process import Batch, Job, WorkerProcess
from korlm.tokenizers.workers.protocol import (
    HEAD,
    Message,
    config_from_json,
    config_to_json,
    receive,
    send,
)

SECONDS = 30.0  # limit of a test
SOON = 10.0  # limit of an immediate reaction on a busy machine

# Frames

FRAMES: list[tuple[Message, bytes]] = [
    ({}, b""),
    ({"ready": True}, b""),
    ({"id": 3, "texts": ["가\ud800\0", "", "\U0001f600\n"], "part": False}, b""),
    ({"id": 2**40}, bytes(range(256)) * 300),
]


def test_frames_there_and_back() -> None:
    stream = io.BytesIO()
    for message, data in FRAMES:
        send(stream, message, data)
    stream.seek(0)
    assert [receive(stream) for _ in FRAMES] == FRAMES
    assert receive(stream) is None
    assert receive(stream) is None


@pytest.mark.parametrize("data", [b"", b"\0some bytes"])
def test_a_frame_that_is_cut_anywhere_is_the_end(data: bytes) -> None:
    whole = io.BytesIO()
    send(whole, {"id": 1, "texts": ["가"]}, data)
    frame = whole.getvalue()
    for length in range(len(frame)):
        assert receive(io.BytesIO(frame[:length])) is None, length
        later = io.BytesIO(frame + frame[:length])
        assert receive(later) == ({"id": 1, "texts": ["가"]}, data)
        assert receive(later) is None, length
    assert len(frame) > HEAD.size + len(data)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes always block here")
def test_a_frame_is_sent_at_once() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb") as sink:
        send(sink, {"id": 1}, b"x")
        os.set_blocking(reading, False)
        assert receive(source) == ({"id": 1}, b"x")


# Settings


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"engine": KkmaEngine.konlpy, "workers": 3, "threads": 5, "heap_mb": 700},
        {"line_timeout_s": 0.25, "limit_work": False, "cache_size_mb": 0},
    ],
)
def test_settings_there_and_back(changed: dict[str, Any]) -> None:
    config = dataclasses.replace(KkmaConfig(name="kkma"), **changed)
    assert config_from_json(config_to_json(config)) == config


# The process, with the fake Kkma

# More failures than those of fakes.py:
#   OOM!   no memory       OOM-ONCE! the same, but only once       BUG! an unexpected exception
MORE = """

class OutOfMemoryError(jpype.JException):
    __module__ = "java.lang"


OutOfMemoryError.__name__ = "java.lang.OutOfMemoryError"
plain_analyzer = Interface.morphAnalyzer


def morphAnalyzer(self, text):
    if text not in GOLDEN:
        with (HERE / "analyzed").open("a", encoding="utf-8") as file:
            file.write(text + "\\n")
    if "OOM!" in text or ("OOM-ONCE!" in text and not (HERE / "full").exists()):
        (HERE / "full").touch()
        raise OutOfMemoryError
    if "BUG!" in text:
        raise KeyError("a bug")
    return plain_analyzer(self, text)


Interface.morphAnalyzer = morphAnalyzer

if (HERE / "slow_start").exists():
    (HERE / "starting").touch()
    time.sleep(1000)
"""


class Process(WorkerProcess):
    """A worker process as the pool starts it; its frames go to a queue as they are."""

    def __init__(self, config: KkmaConfig, folder: Path) -> None:
        self.folder = folder  # of the fake
        self.number = 0
        self.frames: queue.SimpleQueue[Any] = queue.SimpleQueue()
        super().__init__(config, self.frames)

    def _received(self, message: Message, data: bytes) -> Any:
        return message, data

    def send_texts(self, texts: Sequence[str], part: bool = False) -> int:
        """Send a batch; return its number."""
        self.number += 1
        self.send(self.number, Job(texts, None if part else Batch(len(texts))))
        return self.number

    def receive(self) -> tuple[Message, bytes] | None:
        """Return the next frame other than ``alive``; None at the end."""
        frame: tuple[Message, bytes] | None = self.frames.get(timeout=SECONDS)[1]
        return frame

    def answer(self, **more: Any) -> list[Analysis]:
        """Return the results of the last batch; check additional fields of its message."""
        frame = self.receive()
        assert frame is not None and frame[0] == {"id": self.number, **more}
        columns = unpack(frame[1])
        assert isinstance(columns, pa.RecordBatch) and columns.schema == ANALYSIS
        return analyses_of(columns)

    def analyzed(self) -> list[str]:
        """Return the texts analyzed since the last call, in order."""
        path = self.folder / "analyzed"
        # Not by lines: texts contain unusual line ends.
        texts = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        path.unlink(missing_ok=True)
        return texts

    def end(self) -> tuple[int, float]:
        """Close stdin; return the exit code and the seconds until the end."""
        assert self.process.stdin is not None
        started = time.monotonic()
        self.process.stdin.close()
        return self.process.wait(timeout=SECONDS), time.monotonic() - started

    def stderr(self) -> str:
        self.process.wait(timeout=SECONDS)
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8")


Start = Callable[..., Process]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the fake Kkma."""
    package = install_fake_kkma(tmp_path / "fake", monkeypatch)
    tag = package / "tag.py"
    tag.write_text(tag.read_text(encoding="utf-8") + MORE, encoding="utf-8")
    return package


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Return a function that starts a worker; all are ended after the test."""
    with contextlib.ExitStack() as started:

        def start(
            threads: int = 1, seconds: float = 100.0, limit_work: bool = False, ready: bool = True
        ) -> Process:
            config = KkmaConfig(
                name="kkma",
                engine=KkmaEngine.konlpy,
                threads=threads,
                heap_mb=1024,
                line_timeout_s=seconds,
                limit_work=limit_work,
            )
            process = Process(config, folder)
            started.callback(process.close)
            if ready:
                assert process.receive() == ({"ready": True}, b"")
            return process

        yield start


def timeless(analyses: Sequence[Analysis]) -> list[Analysis]:
    return [analysis._replace(seconds=0.0) for analysis in analyses]


def test_jobs(start: Start) -> None:
    worker = start()
    texts = ["나는 간다", "", "\u3000", "a\x1cb\x85c", "\0"]
    worker.send_texts(texts)
    assert timeless(worker.answer()) == [faked(texts[0]), EMPTY, EMPTY, faked(texts[3]), EMPTY]
    assert worker.analyzed() == [texts[0], texts[3]]
    worker.send_texts([])
    assert worker.answer() == []
    # A lone surrogate cannot be sent to Java.
    worker.send_texts(["가\ud83d 나\udc00", "😀"])
    assert timeless(worker.answer()) == [faked("가\ufffd 나\ufffd"), faked("😀")]


def test_several_threads_answer_every_job(start: Start) -> None:
    worker = start(threads=3)
    jobs = {worker.send_texts([f"{n}", "SLOW!" if n % 4 == 0 else "가"]): n for n in range(20)}
    while jobs:
        frame = worker.receive()
        assert frame is not None
        n = jobs.pop(frame[0]["id"])
        expected = [faked(f"{n}"), faked("SLOW!" if n % 4 == 0 else "가")]
        assert timeless(analyses_of(unpack(frame[1]))) == expected


def test_seconds_are_measured(start: Start) -> None:
    worker = start()
    started = time.monotonic()
    worker.send_texts(["가", "나 SLOW! 다", "SLOW! SLOW!", ""])
    seconds = [analysis.seconds for analysis in worker.answer()]
    assert seconds[1] >= 0.099 and seconds[2] >= 0.199 and seconds[3] == 0
    assert 0.299 <= sum(seconds) <= time.monotonic() - started


def test_output_of_java_does_not_interfere(start: Start) -> None:
    worker = start()
    for text in ("SPEAK! 가", "나 SPEAK! SPEAK!"):
        worker.send_texts([text])
        assert timeless(worker.answer()) == [faked(text)]
    worker.end()
    assert worker.stderr().count("noise on stdout\n") == 3


def test_limit_work_lets_eojeols_be_cut(start: Start) -> None:
    worker = start(limit_work=True)
    worker.send_texts(["다 JAVA! 라"])
    assert timeless(worker.answer()) == [faked("다 JAVA! 라")._replace(status="cut: JException")]
    assert worker.analyzed() == ["다 JAVA! 라", "다", "JAVA!", "JAV", "A!", "라"]


def test_a_line_that_filled_the_memory_is_tried_once_more(start: Start) -> None:
    worker = start(threads=2)
    worker.send_texts(["가", "OOM-ONCE! 나", "다 OOM! 라"])
    left = Analysis(["다", "OOM!", "라"], ["U+B2E4", "UN", "U+B77C"], [0, 1, 2])
    assert timeless(worker.answer()) == [
        faked("가"),
        faked("OOM-ONCE! 나"),
        left._replace(status="fallback: OutOfMemoryError"),
    ]
    once, always = "OOM-ONCE! 나", "다 OOM! 라"
    assert worker.analyzed() == ["가", once, always, once, always, "다", "OOM!", "라"]


def test_parts_are_not_analyzed_in_parts(start: Start) -> None:
    worker = start(limit_work=True)
    worker.send_texts(["나 다"], part=True)
    assert timeless(worker.answer()) == [faked("나 다")]
    worker.send_texts(["다 JAVA! 라"], part=True)
    assert worker.answer(errors=[[0, "JException"]]) == []
    worker.send_texts(["가\ud83d"], part=True)
    assert timeless(worker.answer()) == [faked("가\ufffd")]
    assert worker.analyzed() == ["나 다", "다 JAVA! 라", "가\ufffd"]


# Time


def test_stuck_lines_are_reported(start: Start) -> None:
    worker = start(threads=3, seconds=0.3)
    batch = worker.send_texts(["가", "", "나다 HANG! 라", "마"])
    assert worker.receive() == ({"id": batch, "stuck": 2}, b"")
    # A part of a line that failed as a whole.
    batch = worker.send_texts(["", "", "ALONE! HANG!"])
    assert worker.receive() == ({"id": batch, "stuck": 2}, b"")
    # Each is reported once, however long it hangs, and the third thread continues.
    worker.send_texts(["SLOW!"] * 6)
    assert timeless(worker.answer()) == [faked("SLOW!")] * 6


def test_a_line_that_waits_forever_is_reported(start: Start) -> None:
    worker = start(seconds=0.05)
    batch = worker.send_texts(["가", "나 WAIT! 다"])
    assert worker.receive() == ({"id": batch, "stuck": 1}, b"")


def test_time_is_that_of_a_line_and_not_of_a_batch(start: Start) -> None:
    worker = start(seconds=1.0)
    texts = ["SLOW!"] * 12
    worker.send_texts(texts)
    results = worker.answer()  # no line is reported as stuck before
    assert timeless(results) == [faked(text) for text in texts]
    assert sum(analysis.seconds for analysis in results) > 1.1


# Ends


@pytest.mark.parametrize("where", ["idle", "hangs", "starts", "within a frame"])
def test_the_end_of_stdin_is_the_end(start: Start, folder: Path, where: str) -> None:
    if where == "starts":
        (folder / "slow_start").touch()
    worker = start(threads=2, ready=where != "starts")
    if where == "starts":
        deadline = time.monotonic() + SECONDS
        while not (folder / "starting").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    if where == "within a frame":
        frame = io.BytesIO()
        send(frame, {"id": 1, "texts": ["가"], "part": False})
        assert worker.process.stdin is not None
        worker.process.stdin.write(frame.getvalue()[:-1])
        worker.process.stdin.flush()
    if where == "hangs":
        worker.send_texts(["HANG!"])
        worker.send_texts(["HANG!"])
        deadline, analyzed = time.monotonic() + SECONDS, worker.analyzed()
        while len(analyzed) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
            analyzed += worker.analyzed()
    code, seconds = worker.end()
    assert code == 0 and seconds < SOON
    assert worker.receive() is None
    assert worker.analyzed() == []


@pytest.mark.parametrize("texts", [["가", "BUG!"], [None]])
def test_a_bug_ends_the_process(start: Start, texts: list[str]) -> None:
    worker = start(threads=2)
    worker.send_texts(texts)
    assert worker.receive() is None
    assert "Error: " in worker.stderr().splitlines()[-1]
    assert worker.end()[0] == 1
