"""Prompts: lines of a file or of standard input, without line ends."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from korlm.generation.prompts import read_prompts
from korlm.utils.errors import CorpusError


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "latin-1"))


def test_prompt_of_the_command_line() -> None:
    assert list(read_prompts(" 나는, ", None)) == [" 나는, "]
    assert list(read_prompts(None, None)) == [""]


LINES = "\ufeff나는 \r\n너는\t\n'우리는' ${x}".encode()


def test_lines_keep_their_spaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stdin(monkeypatch, LINES)
    (tmp_path / "a.txt").write_bytes(LINES)
    expected = ["나는 ", "너는\t", "'우리는' ${x}"]
    assert list(read_prompts(None, "-")) == expected
    assert list(read_prompts(None, str(tmp_path / "a.txt"))) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("나는\n \n너는\n".encode(), "line 2 is blank; remove it"),
        (b"", "is empty; put one prompt on each line"),
        ("나는\n너는".encode("cp949"), "is not utf-8"),
    ],
)
def test_invalid_prompts(
    data: bytes, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stdin(monkeypatch, data)
    (tmp_path / "a.txt").write_bytes(data)
    for path, name in (("-", "standard input"), (str(tmp_path / "a.txt"), "a.txt")):
        with pytest.raises(CorpusError, match=message) as caught:
            list(read_prompts(None, path))
        assert name in str(caught.value)


def test_standard_input_is_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "나는\n\n".encode())
    prompts = read_prompts(None, "-")
    assert next(prompts) == "나는"
    with pytest.raises(CorpusError):
        next(prompts)
