"""Content of wheel and sdist: an installed korlm has all files that a checkout has."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

build = pytest.importorskip("hatchling.build", reason="needs the package hatchling")


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return set(filter(None, listed.stdout.split("\0")))


def test_the_wheel(tracked: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build.build_wheel(str(tmp_path))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (entry_points,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
        assert "korlm = korlm.__main__:main" in wheel.read(entry_points).decode()
    expected = {name for name in tracked if name.startswith("korlm/")}
    expected |= {f"korlm/{name}" for name in tracked if name.startswith("conf/")}
    assert names >= expected
    assert {name.split("/")[0] for name in names} == {"korlm"}


def test_the_sdist(tracked: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    needed = ("korlm/", "conf/", "scripts/", "tests/")
    assert names >= {name for name in tracked if name.startswith(needed)}
    assert names >= {"pyproject.toml", "README.md", "LICENSE", "constraints.txt"}
