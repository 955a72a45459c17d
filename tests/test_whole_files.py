"""A file appears whole, or the old one stays and nothing else."""

from pathlib import Path

import pytest

from korlm.whole_files import replacing


def test_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("old", "utf-8")
    with replacing(path) as temporary:
        temporary.write_text("new", "utf-8")
        assert path.read_text("utf-8") == "old"
    assert path.read_text("utf-8") == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tsv"]


def test_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("ne", "utf-8")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "a.tsv.tmp").mkdir()
    with pytest.raises(OSError), replacing(tmp_path / "a.tsv") as temporary:
        temporary.write_text("new", "utf-8")
    assert (tmp_path / "a.tsv.tmp").is_dir()
