"""The worker: clean frames, the right characters at the right time, an end whenever stdin ends."""

import contextlib
import dataclasses
import io
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import ROOT
from fakes import install_fake_kkma

from korlm.config import Engine, KkmaConfig
from korlm.tokenizers.analysis import (
    ANALYSIS,
    EMPTY,
    Analysis,
    analyses_of,
    pack,
    to_record_batch,
    unpack,
)
from korlm.tokenizers.workers.protocol import HEAD, Message, config_to_json, receive, send

SECONDS = 30.0  # until a test gives up
SOON = 10.0  # for what happens at once, on a busy machine


# Frames

FRAMES: list[tuple[Message, bytes]] = [
    ({}, b""),
    ({"ready": True}, b""),
    ({"id": 3, "texts": ["가\ud800\0", "", "\U0001f600\n"], "known": [[0, 1, 2, "왜"]]}, b""),
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
    reading, output_errors = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(output_errors, "wb") as sink:
        send(sink, {"id": 1}, b"x")
        os.set_blocking(reading, False)
        assert receive(source) == ({"id": 1}, b"x")


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [EMPTY],
        [Analysis(["나", "는", "\0😀"], ["NP", "", "OL"], [0, 0, 7], "lost: 2 characters", 2, 0.5)],
        [EMPTY, Analysis(["가"] * 1000, ["N"] * 1000, [*range(1000)]), EMPTY],
    ],
)
def test_columns_there_and_back(lines: list[Analysis]) -> None:
    columns = unpack(pack(to_record_batch(lines)))
    assert columns.schema == ANALYSIS
    assert columns.validate(full=True) is None
    assert analyses_of(columns) == lines
    assert analyses_of(unpack(pack(to_record_batch([EMPTY, *lines]).slice(1)))) == lines


# Settings

# main() reads its settings; what it made of them comes back as its complaint.
TELL = """
from korlm.tokenizers.workers import worker
from korlm.utils.errors import TokenizerError

def tell(output, config, jobs):
    raise TokenizerError(repr(config))

worker._Worker = tell
worker.main()
"""


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"engine": Engine.konlpy, "workers": 3, "threads": 5, "heap": 700},
        {"line_timeout_s": 0.25, "limit_work": False, "cache_size_mb": 0},
    ],
)
def test_settings_arrive(changed: dict[str, Any]) -> None:
    config = dataclasses.replace(KkmaConfig(name="kkma"), **changed)
    reading, output_errors = os.pipe()  # stdin must stay open
    done = subprocess.run(
        [sys.executable, "-c", TELL, config_to_json(config)],
        stdin=reading,
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    os.close(reading)
    os.close(output_errors)
    assert receive(io.BytesIO(done.stdout)) == ({"failed": repr(config)}, b"")


# The process, with the fake Kkma

# More ways to misbehave than those of fakes.py:
#   OOM!   no memory       OOM-ONCE! the same, but only once       BUG! what nobody expects
MORE = """

class OutOfMemoryError(jpype.JException):
    __module__ = "java.lang"


OutOfMemoryError.__name__ = "java.lang.OutOfMemoryError"
plain_analyzer = Interface.morphAnalyzer


def morphAnalyzer(self, text):
    if text not in GOLDEN:
        with (HERE / "asked").open("a", encoding="utf-8") as file:
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


class Process:
    """A worker as the pool starts it; what it says comes through a queue."""

    def __init__(self, config: KkmaConfig, folder: Path) -> None:
        self.folder = folder  # of the fake
        self.number = 0
        self._frames: queue.SimpleQueue[tuple[Message, bytes] | None] = queue.SimpleQueue()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "korlm.tokenizers.workers.worker", config_to_json(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]]),
            },
        )
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        frame: tuple[Message, bytes] | None = ({}, b"")
        while frame is not None:
            frame = receive(self._process.stdout)
            self._frames.put(frame)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._stderr.close()

    def give(
        self, texts: Sequence[str], known: Sequence[Sequence[Any]] = (), careful: bool = False
    ) -> int:
        """Sends a job, gives its number."""
        self.number += 1
        job = {"id": self.number, "texts": texts, "known": known, "careful": careful}
        assert self._process.stdin is not None
        send(self._process.stdin, job)
        return self.number

    def hear_any(self) -> tuple[Message, bytes] | None:
        """The next frame; None at the end."""
        return self._frames.get(timeout=SECONDS)

    def hear(self) -> tuple[Message, bytes] | None:
        """The next frame that is no sign of life."""
        deadline = time.monotonic() + SECONDS
        while (frame := self.hear_any()) == ({"alive": True}, b""):
            assert time.monotonic() < deadline, "it lives and says nothing"
        return frame

    def answer(self, *before: Message) -> list[Analysis]:
        """What became of the last job; exactly these messages come before."""
        for message in before:
            assert self.hear() == (message, b"")
        frame = self.hear()
        assert frame is not None and frame[0] == {"id": self.number}
        columns = unpack(frame[1])
        assert isinstance(columns, pa.RecordBatch) and columns.schema == ANALYSIS
        return analyses_of(columns)

    def asked(self) -> list[str]:
        """What the analyzer was given since the last time, in order."""
        path = self.folder / "asked"
        # Not by lines: texts hold odd ones.
        found = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    def end(self) -> tuple[int, float]:
        """Closes stdin; the exit code, and the seconds that it took."""
        assert self._process.stdin is not None
        began = time.monotonic()
        self._process.stdin.close()
        return self._process.wait(timeout=SECONDS), time.monotonic() - began

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def last_stderr_line(self) -> str:
        self._process.wait(timeout=SECONDS)
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8")


Start = Callable[..., Process]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake Kkma."""
    package = install_fake_kkma(tmp_path / "fake", monkeypatch)
    tag = package / "tag.py"
    tag.write_text(tag.read_text(encoding="utf-8") + MORE, encoding="utf-8")
    return package


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts workers that are ready; none outlives the test."""
    with contextlib.ExitStack() as started:

        def start(
            threads: int = 1, seconds: float = 100.0, limit_work: bool = False, ready: bool = True
        ) -> Process:
            config = KkmaConfig(
                name="kkma",
                engine=Engine.konlpy,
                threads=threads,
                heap_mb=1024,
                line_timeout_s=seconds,
                limit_work=limit_work,
            )
            process = Process(config, folder)
            started.callback(process.close)
            if ready:
                assert process.hear() == ({"ready": True}, b"")
            return process

        yield start


def faked(text: str) -> Analysis:
    """What the fake Kkma gives for a harmless line."""
    units = text.split()
    morphs = [char for unit in units for char in unit]
    eojeol = [index for index, unit in enumerate(units) for _ in unit]
    return Analysis(morphs, [f"U+{ord(char):04X}" for char in morphs], eojeol)


def timeless(analyses: Sequence[Analysis]) -> list[Analysis]:
    return [analysis._replace(seconds=0.0) for analysis in analyses]


def test_jobs(start: Start) -> None:
    worker = start()
    texts = ["나는 간다", "", "\u3000", "a\x1cb\x85c", "\0"]
    worker.give(texts)
    assert timeless(worker.answer()) == [faked(texts[0]), EMPTY, EMPTY, faked(texts[3]), EMPTY]
    assert worker.asked() == [texts[0], texts[3]]
    worker.give([])
    assert worker.answer() == []
    # Half of a surrogate pair cannot cross to Java.
    worker.give(["가\ud83d 나\udc00", "😀"])
    assert timeless(worker.answer()) == [faked("가\ufffd 나\ufffd"), faked("😀")]


def test_several_threads_answer_every_job(start: Start) -> None:
    worker = start(threads=3)
    jobs = {worker.give([f"{n}", "SLOW!" if n % 4 == 0 else "가"]): n for n in range(20)}
    while jobs:
        frame = worker.hear()
        assert frame is not None
        n = jobs.pop(frame[0]["id"])
        expected = [faked(f"{n}"), faked("SLOW!" if n % 4 == 0 else "가")]
        assert timeless(analyses_of(unpack(frame[1]))) == expected


def test_seconds_are_measured(start: Start) -> None:
    worker = start()
    began = time.monotonic()
    worker.give(["가", "나 SLOW! 다", "SLOW! SLOW!", ""])
    seconds = [analysis.seconds for analysis in worker.answer()]
    assert seconds[1] >= 0.099 and seconds[2] >= 0.199 and seconds[3] == 0
    assert 0.299 <= sum(seconds) <= time.monotonic() - began


def test_what_java_prints_does_not_disturb(start: Start) -> None:
    worker = start()
    for text in ("SPEAK! 가", "나 SPEAK! SPEAK!"):
        worker.give([text])
        assert timeless(worker.answer()) == [faked(text)]
    worker.end()
    assert worker.last_stderr_line().count("noise on stdout\n") == 3


def test_a_line_that_cannot_be_read_is_read_in_parts(start: Start) -> None:
    worker = start()
    worker.give(["가", "다 JAVA! 라", "나"])
    left = Analysis(["다", "JAVA!", "라"], ["U+B2E4", "UN", "U+B77C"], [0, 1, 2])
    assert timeless(worker.answer()) == [
        faked("가"),
        left._replace(status="fallback: JException"),
        faked("나"),
    ]
    # The plain lines first, all at once.
    assert worker.asked() == ["가", "다 JAVA! 라", "나", "다", "JAVA!", "라"]


def test_limit_work_lets_eojeols_be_cut(start: Start) -> None:
    worker = start(limit_work=True)
    worker.give(["다 JAVA! 라"])
    assert timeless(worker.answer()) == [faked("다 JAVA! 라")._replace(status="cut: JException")]
    assert worker.asked() == ["다 JAVA! 라", "다", "JAVA!", "JAV", "A!", "라"]


def test_a_line_that_filled_the_memory_is_tried_once_more(start: Start) -> None:
    worker = start(threads=2)
    worker.give(["가", "OOM-ONCE! 나", "다 OOM! 라"])
    left = Analysis(["다", "OOM!", "라"], ["U+B2E4", "UN", "U+B77C"], [0, 1, 2])
    assert timeless(worker.answer()) == [
        faked("가"),
        faked("OOM-ONCE! 나"),
        left._replace(status="fallback: OutOfMemoryError"),
    ]
    once, always = "OOM-ONCE! 나", "다 OOM! 라"
    assert worker.asked() == ["가", once, always, once, always, "다", "OOM!", "라"]


# What is known, careful jobs


def test_known_parts_are_not_tried(start: Start) -> None:
    worker = start(seconds=20.0)
    texts = ["가", "나 HANG! 다", "라 DIE!", "마"]
    worker.give(
        texts,
        known=[
            [1, 0, 9, "too slow"],
            [1, 2, 7, "too slow"],
            [2, 0, 6, "Java died"],
            [2, 2, 6, "x"],
        ],
    )
    results = worker.answer()
    assert timeless(results) == [
        faked("가"),
        Analysis(
            ["나", "HANG!", "다"], ["U+B098", "UN", "U+B2E4"], [0, 1, 2], "fallback: too slow"
        ),
        Analysis(["라", "DIE!"], ["U+B77C", "UN"], [0, 1], "fallback: Java died"),
        faked("마"),
    ]
    assert worker.asked() == ["가", "마", "나", "다", "라"]
    # What was too slow took its time, in a worker that is no more.
    assert [round(analysis.seconds / 20) for analysis in results] == [0, 2, 0, 0]


def test_a_known_part_leads_the_line_into_parts(start: Start) -> None:
    # The line failed as a whole by an exception, then a part of it hung.
    worker = start()
    worker.give(["  나 HANG! 다라"], known=[[0, 4, 9, "too slow"]], careful=True)
    (found,) = worker.answer(
        {"id": 1, "next": [0, 2, 3]},
        {"id": 1, "next": [0, 10, 12]},
    )
    assert (found.morphs, found.status) == (["나", "HANG!", "다", "라"], "fallback: too slow")
    assert worker.asked() == ["나", "다라"]


def test_careful_jobs_tell_what_comes_next(start: Start) -> None:
    worker = start()
    texts = ["가", "", " 나 JAVA! 다", "라", "마 HANG! 바"]
    worker.give(texts, known=[[4, 0, 9, "too slow"], [4, 2, 7, "too slow"]], careful=True)
    plain = [[0, 0, 1], [2, 0, 10], [3, 0, 1]]
    parts = [[4, 0, 1], [4, 8, 9], [2, 1, 2], [2, 3, 8], [2, 9, 10]]  # what was known goes first
    spans = plain + parts
    results = worker.answer(*({"id": 1, "next": span} for span in spans))
    statuses = ["ok", "empty", "fallback: JException", "ok", "fallback: too slow"]
    assert [analysis.status for analysis in results] == statuses
    assert worker.asked() == [texts[line][begin:end] for line, begin, end in spans]
    # The next job need not be careful.
    worker.give(["JAVA! 가"])
    assert [analysis.status for analysis in worker.answer()] == ["fallback: JException"]


def test_what_comes_next_is_told_before_it_is_tried(start: Start) -> None:
    worker = start()
    worker.give(["가", "나 DIE! 다", "라"], careful=True)
    said = [worker.hear() for _ in range(3)]
    assert said == [({"id": 1, "next": [0, 0, 1]}, b""), ({"id": 1, "next": [1, 0, 8]}, b""), None]
    assert worker.last_stderr_line().endswith("a last word\n")


# Time


def test_who_is_stuck_is_named(start: Start) -> None:
    worker = start(threads=3, seconds=0.3)
    # As a whole; a part; both while others are at work, who are not to blame.
    whole = worker.give(["가", "나다 HANG! 라", "마"])
    assert worker.hear() == ({"id": whole, "stuck": [1, 0, 10]}, b"")
    part = worker.give(["", "나다 HANG! 라"], known=[[1, 0, 10, "too slow"]])
    assert worker.hear() == ({"id": part, "stuck": [1, 3, 8]}, b"")
    # Each is named once, however long it hangs, and the third thread goes on.
    for _ in range(6):
        frame = worker.hear_any()
        assert frame == ({"alive": True}, b"")
    worker.give(["바"])
    assert timeless(worker.answer()) == [faked("바")]


def test_time_is_that_of_a_line_and_not_of_a_batch(start: Start) -> None:
    worker = start(seconds=1.0)
    texts = ["SLOW!"] * 12
    worker.give(texts)
    results = worker.answer()  # nothing is called stuck before it
    assert timeless(results) == [faked(text) for text in texts]
    assert sum(analysis.seconds for analysis in results) > 1.1


# Ends


@pytest.mark.parametrize("where", ["idle", "hangs", "starts"])
def test_the_end_of_stdin_is_the_end(start: Start, folder: Path, where: str) -> None:
    if where == "starts":
        (folder / "slow_start").touch()
    worker = start(threads=2, ready=where != "starts")
    if where == "starts":
        deadline = time.monotonic() + SECONDS
        while not (folder / "starting").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    if where == "hangs":
        worker.give(["HANG!"], careful=True)
        worker.give(["HANG!"], careful=True)
        assert {str(worker.hear()) for _ in range(2)} == {
            str(({"id": number, "next": [0, 0, 5]}, b"")) for number in (1, 2)
        }
    code, seconds = worker.end()
    assert code == 0 and seconds < SOON
    assert worker.hear() is None


def test_a_frame_that_is_broken_off_is_the_end(start: Start) -> None:
    worker = start()
    frame = io.BytesIO()
    send(frame, {"id": 1, "texts": ["가"], "known": [], "careful": False})
    worker.write(frame.getvalue()[:-1])
    code, seconds = worker.end()
    assert code == 0 and seconds < SOON
    assert worker.asked() == []


def test_a_start_that_fails_is_told(start: Start, folder: Path) -> None:
    (folder / "no_java").touch()
    worker = start(ready=False)
    assert worker.hear() == ({"failed": "Java did not start: no Java"}, b"")
    assert worker.hear() is None
    worker.last_stderr_line()
    assert worker.end()[0] == 1


@pytest.mark.parametrize("texts", [["가", "BUG!"], [None]])
def test_a_bug_ends_the_process(start: Start, texts: list[str]) -> None:
    worker = start(threads=2)
    worker.give(texts)
    assert worker.hear() is None
    assert "Error: " in worker.last_stderr_line().splitlines()[-1]
    assert worker.end()[0] == 1
