"""Closed streams and terminals with few characters do not end a command."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import ROOT, TinyCorpus

from korlm.utils.io.streams import is_non_utf8_terminal, set_up_streams
from korlm.utils.io.table_files import TableWriter


@pytest.mark.parametrize("encoding", ["cp949", "euc-kr", "ascii", "utf-8"])
def test_unencodable_characters_are_escaped(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    raw = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding=encoding))
    set_up_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.write("나👍\udcff")
        stream.flush()
    shown = "나👍\udcff".encode(encoding, "backslashreplace")
    assert raw.getvalue() == shown * 2


def test_data_on_a_terminal_of_another_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="cp949", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert not is_non_utf8_terminal(), "a file or a pipe takes UTF-8"
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    assert is_non_utf8_terminal()
    writer = TableWriter("-", pa.schema([("token", pa.string())]), "output")
    writer.write(pa.table({"token": ["나", "👍"]}))
    assert raw.getvalue().decode("cp949").split() == ["token", "나", r"\U0001f44d"]
    monkeypatch.setattr(
        sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="UTF8", errors="strict")
    )
    assert not is_non_utf8_terminal()


def test_closed_streams_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    set_up_streams()
    assert sys.stdin.read() == ""
    for stream in (sys.stdout, sys.stderr):
        assert stream.write("나") == 1
        stream.close()
    sys.stdin.close()


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&-"])
def test_a_file_opened_later_is_not_a_standard_stream(tmp_path: Path, closed: str) -> None:
    code = (
        "import os; from korlm.utils.io.streams import set_up_streams; set_up_streams(); "
        f"fd = os.open({str(tmp_path / 'file')!r}, os.O_WRONLY | os.O_CREAT); "
        "os.write(fd, str(fd).encode())"
    )
    command = f'exec "$0" -c "$1" {closed}'
    subprocess.run(["sh", "-c", command, sys.executable, code], check=True, cwd=ROOT)
    assert int((tmp_path / "file").read_text()) > 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell of POSIX")
def test_a_daemon_prepares_and_logs_nothing(tiny: TinyCorpus, tmp_path: Path) -> None:
    """All three streams are closed, as for a daemon."""
    words = [*tiny.overrides, "tokenizer=eojeol", f"outputs={tmp_path}"]
    command = 'exec "$0" -m korlm.prepare "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, *words], cwd=ROOT, check=False, capture_output=True
    )
    assert done.returncode == 0
    assert len(list(tmp_path.glob("prepared/text-eojeol-*/manifest.json"))) == 1


def test_a_hangul_message_on_a_terminal_in_ascii(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "korlm.train", "corpus=text", "corpus.files=없다.txt"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert rb"\uc5c6\ub2e4.txt" in done.stderr
    assert done.stderr.count(b"\n") == 1
