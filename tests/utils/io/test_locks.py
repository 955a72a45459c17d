"""The lock of a folder excludes other processes and is removed at the end."""

import errno
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from korlm.sweeps.command import exclusive_job
from korlm.utils.errors import OutputError
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.locks import locked


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
