"""Output folders of commands."""

from pathlib import Path

import pytest

from korlm.cli.output_dirs import remove_empty_parents, run_dir
from korlm.config import ResumeFrom
from korlm.utils.errors import ConfigError


def test_two_runs_of_one_second_have_two_directories(tmp_path: Path) -> None:
    made = {run_dir(str(tmp_path), "same", None) for _ in range(3)}
    assert len(made) == 3
    assert all(Path(path).is_dir() for path in made)


def test_a_run_without_the_checkpoint_that_it_is_resumed_from(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.pt").touch()
    assert run_dir("outputs", None, str(tmp_path), ResumeFrom.best) == str(tmp_path)
    with pytest.raises(ConfigError, match=r"has no checkpoints/last\.pt"):
        run_dir("outputs", None, str(tmp_path))


def test_only_folders_that_korlm_creates_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("outputs/runs/a", "mine/own/b", "here/runs/c"):
        (tmp_path / name).parent.mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "here" if name.startswith("here") else tmp_path)
        remove_empty_parents(tmp_path / name)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == ["here", "mine", "mine/own"]
