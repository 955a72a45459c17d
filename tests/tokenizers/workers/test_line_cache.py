"""The cache returns what was stored or nothing: never a wrong token, never an exception."""

import contextlib
import functools
import hashlib
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from conftest import ROOT, sentences

from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.workers import line_cache as cache_module
from korlm.tokenizers.workers.line_cache import LineCache

LINES = sentences(300, seed=1)
LINES = [f"{number} {line}" for number, line in enumerate(LINES)]  # unique
ANY = 100  # MiB; not reached by these tests

AWKWARD = {
    "hangul": ("아버지가 방에", Analysis(["아버지", "가", "방", "에"], [*"NJNJ"], [0, 0, 1, 1])),
    "jamo": ("ㅋㅋ 갔다", Analysis(["ㅋㅋ", "가", "았", "ㄴ다", "ᆫ다"], [""] * 5, [0, 1, 1, 1, 1])),
    "emoji": ("👍🏽", Analysis(["👍", "🏽"], ["SW", "SW"], [0, 0])),
    "halves": ("\ud83d\ude00 \udc80", Analysis(["😀"], ["a"], [0])),
    "controls": ("a\tb\0c\x85\n", Analysis(["\0", "\t", "\n"], ["\r", "\x85\u2028", ""], [0] * 3)),
    "quotes": ('"] \\u0041', Analysis(['"', "]", "\\u0041"], ['","', "{}", "\\"], [0, 0, 1])),
    "nothing": ("   ", EMPTY),
    "no text": ("", Analysis([], [], [], "fallback: 왜 냐", 3)),
    "one empty token": ("y", Analysis([""], [""], [0])),
    "long": ("가나 " * 50_000, Analysis(["가나"] * 50_000, ["MAG"] * 50_000, [*range(50_000)])),
}


def fake(text: str) -> Analysis:
    """Return an analysis similar to Kkma's."""
    morphs = [text[i : i + 2] for i in range(0, len(text), 2)]
    return Analysis(morphs, ["NNG"] * len(morphs), [i // 2 for i in range(len(morphs))])


def fill(cache: LineCache, texts: Sequence[str]) -> None:
    cache.put({text: fake(text) for text in texts})


def known(cache: LineCache, texts: Sequence[str]) -> list[bool]:
    """Return which lines the cache has; their analyses must be right."""
    results = cache.get(texts)
    assert len(results) == len(texts)
    for text, analysis in zip(texts, results, strict=True):
        assert analysis in (None, fake(text))
    return [analysis is not None for analysis in results]


def database(folder: Path) -> Path:
    return folder / cache_module.FILE


def size(folder: Path) -> int:
    return database(folder).stat().st_size


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the database without the cache."""
    with contextlib.closing(sqlite3.connect(database(folder), isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        yield connection


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# Round trips


@pytest.mark.parametrize("name", AWKWARD)
def test_round_trip(tmp_path: Path, name: str) -> None:
    text, analysis = AWKWARD[name]
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put({text: analysis})
        assert cache.get([text]) == [analysis]
    with LineCache(tmp_path, "1", ANY) as cache:
        (results,) = cache.get([text])
    assert results == analysis
    assert isinstance(results, Analysis)


def test_seconds_are_not_stored(tmp_path: Path) -> None:
    slow = fake("간다")._replace(seconds=3.0, dropped=2, status="lost")
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put({"간다": slow})
        assert cache.get(["간다"]) == [slow._replace(seconds=0.0)]


def test_order_doubles_and_counts(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        assert cache.get([]) == []
        cache.put({})
        fill(cache, ["하나", "둘"])
        assert cache.get(["둘", "셋", "하나", "둘"]) == [fake("둘"), None, fake("하나"), fake("둘")]
        assert (cache.hits, cache.misses) == (3, 1)
        fill(cache, ["셋"])
        cache.get(["셋"])
        assert (cache.hits, cache.misses) == (4, 1)


def test_more_lines_than_one_query_takes(tmp_path: Path) -> None:
    texts = [str(number) for number in range(2 * cache_module.KEYS + 1)]
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, texts)
        assert all(known(cache, texts))


def test_the_last_analysis_wins(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put({"간다": Analysis(["간다"], ["UN"], [0])})
        fill(cache, ["간다"])
        assert cache.get(["간다"]) == [fake("간다")]


def test_another_version_has_no_entries(tmp_path: Path) -> None:
    for version in ("1", "2"):
        with LineCache(tmp_path, version, ANY) as cache:
            assert not any(known(cache, LINES))
            fill(cache, LINES)
    with LineCache(tmp_path, "1", ANY) as cache:
        assert all(known(cache, LINES))


def test_closed(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
    cache.close()
    fill(cache, LINES)
    assert not any(known(cache, LINES))
    assert cache.misses == len(LINES)


# Damaged values


def test_damaged_values_are_misses(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, ["아버지가 방에"])
        with opened(tmp_path) as connection:
            ((whole,),) = connection.execute("SELECT value FROM lines").fetchall()
            damaged = [whole[:end] for end in range(len(whole))]
            for bit in range(8 * len(whole)):
                flipped = bytearray(whole)
                flipped[bit // 8] ^= 1 << bit % 8
                damaged.append(bytes(flipped))
            for value in (*damaged, None, 7, "가"):
                connection.execute("UPDATE lines SET value = ?", (value,))
                known(cache, ["아버지가 방에"])  # unused bits may be flipped
            assert cache.misses > len(damaged) - 8
            connection.execute("UPDATE lines SET value = ?", (whole,))
        assert cache.get(["아버지가 방에"]) == [fake("아버지가 방에")]


def test_the_value_of_another_line_is_a_miss(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, ["가다", "나라"])
        with opened(tmp_path) as connection:
            query = "UPDATE lines SET value = (SELECT value FROM lines WHERE rowid = 2)"
            connection.execute(query)
        assert cache.get(["가다", "나라"]) == [None, fake("나라")]


# Damaged files


def damage_no_database(path: Path) -> None:
    path.write_bytes("문서\n".encode() * 5000)


def damage_first_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)


def damage_cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def damage_other_tables(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE lines (key)")


@pytest.mark.parametrize(
    "damage", [damage_no_database, damage_first_page, damage_cut, damage_other_tables]
)
def test_a_damaged_file_disables_the_cache(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
    damage(database(tmp_path))
    inode = database(tmp_path).stat().st_ino
    with LineCache(tmp_path, "1", ANY) as cache:
        known(cache, LINES)
        fill(cache, LINES)
        assert not any(known(cache, LINES))
    (message,) = warnings(caplog)
    assert f"{database(tmp_path)} disabled" in message and "delete it" in message
    assert database(tmp_path).stat().st_ino == inode  # another process may use the file
    database(tmp_path).unlink()
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
        assert all(known(cache, LINES))


def test_an_empty_file_is_a_new_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database(tmp_path).touch()
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
        assert all(known(cache, LINES))
    assert not warnings(caplog)


def overwrite_pages(path: Path) -> None:
    """Overwrite all but the first page, in a process: closing the file here would end our locks."""
    code = (
        "import sys, os; path = sys.argv[1]; size = os.stat(path).st_size\n"
        "with open(path, 'r+b') as file: file.seek(4096); file.write(b'\\xee' * (size - 4096))"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)


@pytest.mark.parametrize("first", ["get", "put"])
def test_a_file_damaged_while_open(
    tmp_path: Path, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
    with LineCache(tmp_path, "1", ANY) as cache:
        overwrite_pages(database(tmp_path))
        if first == "get":
            assert not any(known(cache, LINES))
        fill(cache, LINES)
        assert not any(known(cache, LINES))
    (warning,) = warnings(caplog)
    assert "disabled" in warning
    assert database(tmp_path).exists()


# The size limit


CHARS = [chr(code) for code in range(ord("가"), ord("힣"))]


@functools.cache
def long_line(number: int) -> str:
    """Return a line whose value takes about 1 kB: random characters."""
    return f"{number} " + "".join(random.Random(number).choices(CHARS, k=300))


def long_lines(begin: int, end: int) -> list[str]:
    return [long_line(number) for number in range(begin, end)]


def test_the_file_keeps_to_its_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = long_lines(0, 2500)
    largest = 0
    with LineCache(tmp_path, "1", 1) as cache:
        for begin in range(0, len(texts), 100):
            fill(cache, texts[begin : begin + 100])
            with opened(tmp_path) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            largest = max(largest, size(tmp_path))
            assert all(known(cache, texts[begin : begin + 100]))
        there = known(cache, texts)
    assert 0.7 * (1 << 20) < largest <= 1 << 20
    # The last lines are cached, and none from before the file was emptied.
    kept = sum(there)
    assert 0 < kept < 1000
    assert all(there[-kept:])
    assert not warnings(caplog)


def test_a_batch_does_not_exceed_the_limit(tmp_path: Path) -> None:
    two = ["".join(long_lines(number, number + 4)) for number in (0, 4)]
    with LineCache(tmp_path, "1", 1) as cache:
        fill(cache, two[:1])
        for count in (300, 3000):  # about one page each: larger than the limit
            fill(cache, [f"{number}{two[0]}" for number in range(count)])
            assert size(tmp_path) <= 1 << 20
        fill(cache, two)
        assert all(known(cache, two))


def test_a_smaller_limit_empties_the_file(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, long_lines(0, 1500))
    with LineCache(tmp_path, "2", 5) as cache:
        fill(cache, LINES)
    assert size(tmp_path) > 1 << 20  # within its limit, it is kept
    with LineCache(tmp_path, "2", 1) as cache:
        fill(cache, LINES)
        assert all(known(cache, LINES))
    with LineCache(tmp_path, "1", 1) as cache:
        assert not any(known(cache, long_lines(0, 1500)))
    assert size(tmp_path) < 1 << 17


# Errors of the disk


@pytest.mark.parametrize("path", ["cache", f"cache/{cache_module.FILE}"])
def test_something_else_in_its_place(
    tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    if path == "cache":
        (tmp_path / path).write_text("")
    else:
        (tmp_path / path).mkdir(parents=True)
    with LineCache(tmp_path / "cache", "1", ANY) as cache:
        fill(cache, LINES)
        assert not any(known(cache, LINES))
        fill(cache, LINES)
    (warning,) = warnings(caplog)
    assert "disabled" in warning


READ_ONLY = """
import logging, os, sys
from pathlib import Path
from korlm.tokenizers.workers.line_cache import LineCache
from korlm.tokenizers.analysis import EMPTY
logging.basicConfig(format="%(levelname)s %(message)s")
folder = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)  # root can write anywhere
with LineCache(folder, "1", 10) as cache:
    cache.put({"a": EMPTY})
    print(cache.get(["a", "b"]))
    cache.put({"a": EMPTY})
"""


@pytest.mark.parametrize("filled", [False, True])
def test_a_folder_that_cannot_be_written(filled: bool) -> None:
    # Not tmp_path, which only its owner can enter.
    folder = Path(tempfile.mkdtemp())
    try:
        if filled:
            with LineCache(folder, "1", ANY) as cache:
                fill(cache, LINES)
        folder.chmod(0o555)
        process = subprocess.run(
            [sys.executable, "-c", READ_ONLY, folder],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
        )
        assert process.stdout == "[None, None]\n"
        (warning,) = process.stderr.splitlines()
        assert warning.startswith("WARNING") and "disabled" in warning
        assert list(folder.iterdir()) == [] or filled
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES[:10])
        assert cache._connection is not None
        pages = cache._connection.execute("PRAGMA page_count").fetchone()[0]
        cache._connection.execute(f"PRAGMA max_page_count={pages}")
        fill(cache, LINES)
        (warning,) = warnings(caplog)
        assert "full" in warning and "disabled" in warning
        fill(cache, LINES)
        assert not any(known(cache, LINES))
    assert len(warnings(caplog)) == 1
    with LineCache(tmp_path, "1", ANY) as cache:
        assert known(cache, LINES) == [True] * 10 + [False] * (len(LINES) - 10)


@pytest.mark.parametrize("when", ["open", "put"])
def test_a_locked_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    monkeypatch.setattr(cache_module, "BUSY_SECONDS", 0.05)
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
    with opened(tmp_path) as connection:
        if when == "open":
            connection.execute("BEGIN IMMEDIATE")
        with LineCache(tmp_path, "1", ANY) as cache:
            if when == "put":
                connection.execute("BEGIN IMMEDIATE")
                assert all(known(cache, LINES))  # readers do not wait
            fill(cache, LINES)
            assert not any(known(cache, LINES))
            fill(cache, LINES)
    (warning,) = warnings(caplog)
    assert "disabled" in warning and "locked" in warning


# Other processes

WORKER = """
import hashlib, logging, sys
from pathlib import Path
from korlm.tokenizers.workers.line_cache import LineCache
from korlm.tokenizers.analysis import Analysis
logging.basicConfig(format="%(levelname)s %(message)s")
folder, seed, limit, end = Path(sys.argv[1]), *map(int, sys.argv[2:])

def fake(text):
    return Analysis([text, text], ["A", str(len(text))], [0, 1])

def lines(seed, number):
    # Half of them are common to all workers.
    heads = [f"{(0, seed)[i % 2]} {number} {i}" for i in range(50)]
    return [hashlib.shake_128(head.encode()).hexdigest(200) for head in heads]

with LineCache(folder, "1", limit) as cache:
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(end):
        texts = lines(seed, number)
        for text, results in zip(texts, cache.get(texts)):
            assert results in (None, fake(text)), results
        cache.put({text: fake(text) for text in texts})
        assert limit == 1 or cache.get(texts) == list(map(fake, texts))
        print(number, flush=True)
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a worker; all are ended after the test."""
    with contextlib.ExitStack() as started:

        def start(folder: Path, seed: int, limit: int, end: int) -> subprocess.Popen[str]:
            worker = subprocess.Popen(
                [sys.executable, "-c", WORKER, folder, str(seed), str(limit), str(end)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            started.enter_context(worker)
            started.callback(worker.kill)
            assert worker.stdout is not None and worker.stdout.readline() == "open\n"
            return worker

        yield start


def go(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()


def worker_lines(seed: int, number: int) -> list[str]:
    heads = [f"{(0, seed)[i % 2]} {number} {i}" for i in range(50)]
    return [hashlib.shake_128(head.encode()).hexdigest(200) for head in heads]


@pytest.mark.parametrize("limit", [ANY, 1])
def test_several_processes_at_once(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], limit: int
) -> None:
    rounds = 60
    workers = [start(tmp_path / "new", seed, limit, rounds) for seed in (1, 2, 3)]
    for worker in workers:
        go(worker)
    for worker in workers:
        _, errors = worker.communicate(timeout=60)
        assert (worker.returncode, errors) == (0, "")
    with LineCache(tmp_path / "new", "1", limit) as cache:
        everything = [
            analysis
            for seed in (1, 2, 3)
            for number in range(rounds)
            for analysis in cache.get(worker_lines(seed, number))
        ]
    assert (None in everything) == (limit == 1)
    assert any(everything)
    assert size(tmp_path / "new") <= limit << 20
    with opened(tmp_path / "new") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_process_killed_in_the_middle_of_a_write(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from korlm.tokenizers.workers import line_cache
        from korlm.tokenizers.analysis import EMPTY
        cache = line_cache.LineCache(Path(sys.argv[1]), "1", 100)
        cache.put({"before": EMPTY})
        cache._connection.execute("BEGIN IMMEDIATE")
        rows = [(cache._key(str(number)), b"x" * 100) for number in range(20_000)]
        cache._connection.executemany("INSERT INTO lines VALUES (?, ?)", rows)
        os.kill(os.getpid(), 9)
        """
    )
    process = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    with LineCache(tmp_path, "1", ANY) as cache:
        assert cache.get(["before", "0", "19999"]) == [EMPTY, None, None]
        fill(cache, LINES)
        assert all(known(cache, LINES))
