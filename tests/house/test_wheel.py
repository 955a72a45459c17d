"""Content of wheel and sdist: an installed korlm has all files that a checkout has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


def test_an_installed_sdist_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``pip install korlm.tar.gz`` does: sdist, its wheel, its files and its command."""
    monkeypatch.chdir(ROOT)
    sdist = tmp_path / build.build_sdist(str(tmp_path))
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path / sdist.name.removesuffix(".tar.gz"))
    wheel = tmp_path / build.build_wheel(str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    target = ["--target", str(tmp_path / "site"), "--no-compile", str(wheel)]
    subprocess.run([*pip, *target], cwd=elsewhere, check=True)
    (elsewhere / "text.txt").write_text("나는 학교에 간다\n너는 집에 온다\n" * 20, encoding="utf-8")
    settings = ["corpus=text", "corpus.files=[text.txt]", "tokenizer=eojeol", "model=ngram"]
    (script,) = (tmp_path / "site" / "bin").glob("korlm*")
    done = subprocess.run(
        [str(script), "train", *settings, "hydra.run.dir=run", "model.order=2"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "perplexity" in json.loads((elsewhere / "run" / "metrics.json").read_text())["valid"]
