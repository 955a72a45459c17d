"""The set-up of scripts/train: the build of torch, and constraints for every Python version."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

CPU = "https://download.pytorch.org/whl/cpu"


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return scripts/bootstrap.py as on Linux without an NVIDIA driver and KORLM_TORCH."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "scripts" / "bootstrap.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(module, "NVIDIA", (str(tmp_path / "driver"),))
    monkeypatch.setattr(module, "VENV", tmp_path)
    monkeypatch.delenv("KORLM_TORCH", raising=False)
    return module


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the commands that are run; the download of the CPU build fails."""
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1 if "--retries" in command else 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_the_cpu_build_where_there_is_no_driver(
    bootstrap: ModuleType, ran: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap.install_torch()
    (command,) = ran
    assert command[command.index("--index-url") + 1] == CPU
    assert {"torch", "--no-deps"} <= set(command)
    assert str(ROOT / "constraints.txt") in command
    # The failed download is reported in one line and is no error.
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot fetch the CPU build of torch from download.pytorch.org; taking" in line


def test_the_default_build_elsewhere(
    bootstrap: ModuleType, ran: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "driver").touch()
    bootstrap.install_torch()
    (tmp_path / "driver").unlink()
    monkeypatch.setattr(sys, "platform", "darwin")
    bootstrap.install_torch()
    assert not ran


@pytest.mark.parametrize(
    ("build", "index"), [("cpu", CPU), ("https://example.org/simple", "https://example.org/simple")]
)
def test_the_requested_build(
    bootstrap: ModuleType,
    ran: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    build: str,
    index: str,
) -> None:
    monkeypatch.setenv("KORLM_TORCH", build)
    bootstrap.install_torch()
    assert ran[0][-4:] == ["--force-reinstall", "torch", "--index-url", index]
    bootstrap.install_torch()
    assert len(ran) == 1  # it is already installed
    monkeypatch.setenv("KORLM_TORCH", "cuda")
    bootstrap.install_torch()
    assert "--force-reinstall" in ran[1]


def pins() -> dict[str, list[str]]:
    """Return the conditions under which constraints.txt pins each package; "": always."""
    results: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"([\w-]+)==([\w.]+)(?:; (.+))?", line)
            assert match is not None, line
            name = re.sub(r"[-_]+", "-", match[1]).lower()
            results.setdefault(name, []).append(match[3] or "")
    return results


def test_each_python_has_one_pin_of_a_package() -> None:
    halves = [
        sorted((f'python_version >= "{version}"', f'python_version < "{version}"'))
        for version in ("3.11", "3.12", "3.13")
    ]
    once = {"importlib-metadata"}  # newer versions of Python do not need it
    for name, conditions in pins().items():
        assert conditions == [""] or sorted(conditions) in halves or name in once, name


def test_every_direct_dependency_is_pinned() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    start, end = text.index("dependencies = ["), text.index("[tool.hatch")
    expected = re.findall(r'"([\w-]+)(?:>=|==)', text[start:end])
    assert len(expected) > 20
    # Their newest versions support all Python versions, and no published metric depends on them.
    free = {"numpy", "pandas", "types-tqdm"}
    assert {name.lower() for name in expected} - free <= pins().keys()
