"""The lock of a folder excludes other processes and is removed at the end."""

import threading
from pathlib import Path

import pytest

from korlm.sweeps.command import exclusive_job
from korlm.utils.errors import OutputError
from korlm.utils.io.locks import exclusive_lock, file_lock


def test_a_second_process_is_refused_and_the_lock_is_removed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with exclusive_lock(path, "taken"):
        with pytest.raises(OutputError, match=r"^taken$"), exclusive_lock(path, "taken"):
            pass
        assert path.exists()
    assert not path.exists()
    with exclusive_lock(path, "taken"):
        pass


def test_one_that_waits_gets_the_lock_though_its_file_is_removed(tmp_path: Path) -> None:
    path, order = tmp_path / ".lock", []
    started = threading.Event()

    def wait() -> None:
        started.set()
        with file_lock(path):
            order.append("second")
            assert path.exists()

    thread = threading.Thread(target=wait)
    with file_lock(path):
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
