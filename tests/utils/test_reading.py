"""Damaged files end in one line; bugs of korlm stay visible."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from korlm.utils.errors import CheckpointError, ConfigError, reading


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"{", "Expecting property name"),
        (b"\xff", "is not UTF-8 at byte 1"),
        (b"{}", "it has no 'name'"),
        (b'{"name": 1}', "'int' object has no attribute 'strip'"),
        (b'{"name": "a"}', "holds a, not the name of a model"),
    ],
)
def test_one_line(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught, reading(path, CheckpointError, "copy it again"):
        name = json.loads(path.read_text("utf-8"))["name"].strip()
        raise ValueError(f"holds {name},\nnot the name\nof a model")
    message = str(caught.value)
    assert message.startswith(f"{path}: damaged or missing ({reason}")
    assert message.endswith("); copy it again") and "\n" not in message
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("bug", [NameError, AssertionError, MemoryError])
def test_other_errors_pass(bug: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(bug), reading(tmp_path, CheckpointError, "copy it again"):
        raise bug("of korlm")
    with pytest.raises(ConfigError, match=r"^format 9$"), reading(tmp_path, CheckpointError, ""):
        raise ConfigError("format 9")
