"""Output folders of commands."""

from pathlib import Path

from korlm.cli.output_dirs import run_dir


def test_two_runs_of_one_second_have_two_directories(tmp_path: Path) -> None:
    made = {run_dir(str(tmp_path), "same", None) for _ in range(3)}
    assert len(made) == 3
    assert all(Path(path).is_dir() for path in made)
