"""A file or folder appears whole, or the old one stays; a lock excludes other processes."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import note_disk
from filelock import FileLock

from korlm.sweeps.command import exclusive_job
from korlm.utils.errors import OutputError
from korlm.utils.io.atomic_files import atomic_folder, atomic_write, locked


def test_a_second_process_is_refused_and_the_lock_is_removed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with locked(path, "taken"):
        with pytest.raises(OutputError, match=r"^taken$"), locked(path, "taken"):
            pass
        assert path.exists()
    assert not path.exists()
    with locked(path, "taken"):
        pass


def test_one_that_waits_gets_the_lock_though_its_file_is_removed(tmp_path: Path) -> None:
    path, order = tmp_path / ".lock", []
    started = threading.Event()

    def wait() -> None:
        started.set()
        with locked(path, "busy", wait=True):
            order.append("second")
            assert path.exists()

    thread = threading.Thread(target=wait)
    with locked(path, "busy", wait=True):
        thread.start()
        started.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "second"] and not path.exists()


def test_the_lock_of_a_finished_job_is_free(tmp_path: Path) -> None:
    """Its lock remains if a process was killed between its last file and removing the lock."""
    for name in (".lock", "metrics.json"):
        (tmp_path / name).touch()
    with exclusive_job(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some network disks."""

    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", fail)
    with locked(tmp_path / ".lock", "taken"):
        pass
    with atomic_write(tmp_path / "a.tsv") as temporary:
        temporary.write_text("new", "utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]


def test_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("old", "utf-8")
    (tmp_path / "a.tsv.tmp").write_text("half of something long", "utf-8")  # of a killed process
    with atomic_write(path) as temporary:
        temporary.write_text("new", "utf-8")
        assert path.read_text("utf-8") == "old"
    assert path.read_text("utf-8") == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tsv"]


def test_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = note_disk(monkeypatch)
    with atomic_write(tmp_path / "a.tsv") as temporary:
        temporary.write_text("new", "utf-8")
    assert events == ["fsync", "replace a.tsv"]


@pytest.mark.parametrize("shared", [False, True])
def test_not_at_all(shared: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    with pytest.raises(KeyboardInterrupt), atomic_write(path, shared) as temporary:
        temporary.write_text("ne", "utf-8")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_shared_writers_have_files_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.tsv"
    with atomic_write(path, shared=True) as first:
        first.write_text("text", "utf-8")
        with atomic_write(path, shared=True) as second:
            second.write_text("text", "utf-8")
        assert path.read_text("utf-8") == "text"
    assert [p.name for p in path.parent.iterdir()] == ["a.tsv"]


def test_a_whole_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "parent" / "folder"
    killed = path.with_name(".folder.tmp")
    killed.mkdir(parents=True)
    (killed / "half").write_text("", "utf-8")
    events = note_disk(monkeypatch)
    with atomic_folder(path) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "a").write_text("new", "utf-8")
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == ["folder"]
    assert [p.relative_to(path).as_posix() for p in sorted(path.rglob("*"))] == ["inner", "inner/a"]
    assert events == ["fsync", "replace folder"]


def test_no_folder_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as temporary:
        (temporary / "a").write_text("ne", "utf-8")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_stays(tmp_path: Path) -> None:
    """The second of two processes that make the same folder finds that of the first."""
    path = tmp_path / "folder"

    def make() -> None:
        with atomic_folder(path):
            pass

    with ThreadPoolExecutor(1) as threads:
        with atomic_folder(path) as temporary:
            (temporary / "a").write_text("first", "utf-8")
            second = threads.submit(make)
        with pytest.raises(FileExistsError, match="folder"):
            second.result()
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert (path / "a").read_text("utf-8") == "first"


def test_a_folder_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "a.tsv.tmp").mkdir()
    with pytest.raises(OSError), atomic_write(tmp_path / "a.tsv") as temporary:
        temporary.write_text("new", "utf-8")
    assert (tmp_path / "a.tsv.tmp").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in folders")
def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="not a regular file"), atomic_write(pipe):
        pass
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_the_log_tells_what_is_waited_for(tmp_path: Path) -> None:
    """A second writer of a file logs a line before it waits."""
    path, lines, has_logged = tmp_path / "a.tsv", [], threading.Event()

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            has_logged.set()

    def write(text: str) -> None:
        with atomic_write(path) as temporary:
            temporary.write_text(text, "utf-8")

    logger = logging.getLogger("korlm.utils.io.atomic_files")
    handler, level = Lines(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with ThreadPoolExecutor(1) as threads:
            with atomic_write(path) as temporary:
                temporary.write_text("first", "utf-8")
                second = threads.submit(write, "second")
                has_waited = has_logged.wait(60)
            second.result()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert has_waited and lines == [f"waiting for {path}, which another korlm process writes"]
    assert path.read_text("utf-8") == "second"


def test_many_write_the_same_file(tmp_path: Path) -> None:
    """A reader sees one of the complete versions, and no process raises an error."""
    path, size = tmp_path / "a.tsv", 200_000
    path.write_text("0" * size, "utf-8")

    def write(letter: str) -> None:
        for _ in range(5):
            with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
                for _ in range(10):
                    file.write(letter * (size // 10))
                    file.flush()

    with ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(write, letter) for letter in "abcd"]
        while not all(writer.done() for writer in writers):
            text = path.read_text("utf-8")
            assert len(text) == size and len(set(text)) == 1
        for writer in writers:
            writer.result()
    assert [p.name for p in tmp_path.iterdir()] == ["a.tsv"]
