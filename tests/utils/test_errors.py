"""The command that installs a missing package matches the installation."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from korlm.utils import errors
from korlm.utils.errors import MissingPackageError, install_command, require_extra

if os.name == "nt":
    pytest.skip("quotes of a POSIX shell", allow_module_level=True)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with a space in its path, whose .venv runs korlm."""
    folder = (tmp_path / "my korlm").resolve()
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / "constraints.txt").touch()
    monkeypatch.setattr(errors, "CHECKOUT", folder)
    monkeypatch.setattr(sys, "prefix", str(folder / ".venv"))
    monkeypatch.setattr(sys, "executable", str(folder / ".venv" / "bin" / "python"))
    return folder


def test_in_a_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    assert install_command("onnx", "onnxruntime") == (
        ".venv/bin/python -m pip install -c constraints.txt onnx onnxruntime"
    )
    monkeypatch.chdir(checkout.parent)
    assert install_command("onnx") == (
        "'my korlm/.venv/bin/python' -m pip install -c 'my korlm/constraints.txt' onnx"
    )


def test_in_an_environment_of_the_users_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", "/opt/own")
    monkeypatch.setattr(sys, "executable", "/opt/own/bin/python")
    assert install_command("onnx") == "/opt/own/bin/python -m pip install onnx"
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pip" else find(name)
    )
    assert install_command("onnx") == "uv pip install --python /opt/own/bin/python onnx"


def test_a_missing_package_is_one_line_with_the_command() -> None:
    with pytest.raises(MissingPackageError) as caught, require_extra("no-such-package"):
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401
    assert str(caught.value) == (
        f"the package no_such_package is not installed: {install_command('no-such-package')}"
    )
