"""Rank of a process that torchrun started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from korlm.cli.output_dirs import output_subdir, run_dir
from korlm.utils.dist_env import Rank, current_rank

VARIABLES = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
}


@pytest.fixture
def sixth(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("sixth")
def test_current_rank() -> None:
    assert current_rank() == Rank(rank=5, size=8, local_rank=1, local_size=4)
    assert not current_rank().is_main_process and not current_rank().is_alone


@pytest.mark.usefixtures("sixth")
def test_settings_of_the_cluster_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert current_rank() == Rank()
    assert current_rank().is_main_process and current_rank().is_alone


@pytest.mark.usefixtures("sixth")
def test_only_the_first_makes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_dir(str(tmp_path), "name", None) == "."
    assert output_subdir(".") is None
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("RANK", "0")
    assert run_dir(str(tmp_path), "name", None).endswith("_name")
    monkeypatch.setattr("korlm.cli.output_dirs.is_sweep", lambda: False)
    assert output_subdir(str(tmp_path)) == ".hydra"


@pytest.mark.parametrize("end, code", [("pass", 0), ("sys.exit(130)", 130), ("sys.exit('no')", 1)])
@pytest.mark.parametrize("together", [True, False])
def test_exit_immediately(together: bool, end: str, code: int) -> None:
    """One of several processes ends without Python's shutdown; its output is flushed."""
    script = (
        "import atexit, sys\nfrom korlm.utils.dist_env import exit_immediately\n"
        "atexit.register(print, 'ended by Python')\nprint('done')\n"
        f"with exit_immediately():\n    {end}\n"
    )
    env = {**os.environ, **(VARIABLES if together else {})}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == code
    assert done.stdout == ("done\n" if together else "done\nended by Python\n")
