"""Interrupted tokenizing continues piece by piece and ends with the same files."""

import errno
import io
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fakes import install_fake_kkma, interrupt_after

from korlm.config import (
    ClusterConfig,
    CorpusConfig,
    DocumentUnit,
    KkmaConfig,
    KkmaEngine,
    VocabConfig,
)
from korlm.dataset import prepare, text_batches, tokenize
from korlm.dataset.prepared import Prepared
from korlm.dataset.storage import piece_writer
from korlm.dataset.storage.shards import shard_paths
from korlm.utils.errors import OutputError
from korlm.utils.progress import ProgressBar

KKMA = KkmaConfig(
    name="kkma", engine=KkmaEngine.konlpy, threads=2, limit_work=False, cache_size_mb=0
)
BATCH_CHARS, PIECE_BYTES = 40, 400
PIECES = ClusterConfig(piece_mb=PIECE_BYTES / 1e6)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CorpusConfig:
    """Return a corpus of about ten pieces and 80 batches; Kkma is a fake without Java."""
    monkeypatch.setattr(text_batches, "BATCH_CHARS", BATCH_CHARS)
    monkeypatch.setattr(piece_writer, "ROW_GROUP_CHARS", 150)
    install_fake_kkma(tmp_path / "fake", monkeypatch)
    rng = random.Random(1)
    words = ["나는", "학교에", "간다", "KBS", "😀", "e\u0301", "JAVA!"]
    lines = [" ".join(rng.choices(words, k=rng.randrange(6))) for _ in range(240)]
    folder = tmp_path / "text"
    folder.mkdir()
    for begin in range(0, 240, 20):
        text = "\n".join(lines[begin : begin + 20]) + "\n"
        (folder / f"{begin:03}.txt").write_text(text, encoding="utf-8")
    return CorpusConfig(name="test", files=[str(folder)], document_unit=DocumentUnit.line)


def make(corpus: CorpusConfig, outputs: Path, min_freq: int = 1) -> Prepared:
    vocab = VocabConfig(min_freq=min_freq)
    return prepare.prepare(corpus, KKMA, vocab, outputs, progress=False, cluster=PIECES)


def run(
    corpus: CorpusConfig, outputs: Path, monkeypatch: pytest.MonkeyPatch, limit: int = 10_000
) -> int:
    """Prepare to the end or up to a number of batches; return how many were tokenized."""
    with monkeypatch.context() as patch:
        counts = interrupt_after(limit, patch)
        try:
            make(corpus, outputs)
        except KeyboardInterrupt:
            assert limit < 10_000
        return len(counts)


def contents(outputs: Path) -> dict[str, bytes]:
    """Return the contents of all files of the corpus, without the measured times."""
    (folder,) = (outputs / "prepared").glob("test-*")
    result = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.suffix == ".jsonl":
            rows = [json.loads(row) for row in data.splitlines()]
            data = json.dumps([row[:3] + row[4:] for row in rows]).encode()
        # The report has times, and the manifest its checksum.
        if path.name not in ("report.tsv", "manifest.json"):
            result[path.relative_to(folder).as_posix()] = data
    return result


def partial_files(outputs: Path) -> list[Path]:
    return [path for path in outputs.glob("prepared/.*.partial/*/*") if path.is_file()]


KILLED = """
import os, sys
from pathlib import Path
from korlm.config import *
from korlm.dataset import prepare, text_batches, tokenize
from korlm.dataset.storage import piece_writer

text, outputs, kill_after = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
text_batches.BATCH_CHARS, piece_writer.ROW_GROUP_CHARS = 40, 150

class KilledWriter(piece_writer.PieceWriter):
    def write(self, batch, analyses):
        global kill_after
        kill_after -= 1
        super().write(batch, analyses)
        if not kill_after:
            os.kill(os.getpid(), 9)

tokenize.PieceWriter = KilledWriter
corpus = CorpusConfig(name="test", files=[text], document_unit=DocumentUnit.line)
options = {"threads": 2, "limit_work": False, "cache_size_mb": 0}
kkma = KkmaConfig(name="kkma", engine=KkmaEngine.konlpy, **options)
pieces = ClusterConfig(piece_mb=float(sys.argv[4]))
prepare.prepare(corpus, kkma, VocabConfig(min_freq=1), outputs, False, pieces)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL here")
@pytest.mark.parametrize("batches", [1, 33])
def test_killed(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    total = run(corpus, tmp_path / "unbroken", monkeypatch)
    outputs = tmp_path / "killed"
    source = str(Path(tokenize.__file__).resolve().parents[2])
    path = os.pathsep.join([source, os.environ["PYTHONPATH"]])
    arguments = [corpus.files[0], str(outputs), str(batches), str(PIECES.piece_mb)]
    command = [sys.executable, "-c", KILLED, *arguments]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == -9
    again = run(corpus, outputs, monkeypatch)
    assert again == total if batches == 1 else total - 33 <= again < total
    assert contents(outputs) == contents(tmp_path / "unbroken")


def test_full_disk(corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_table(self: pq.ParquetWriter, *arguments: object, **settings: object) -> None:
        if not left.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, *arguments, **settings)

    real, left = pq.ParquetWriter.write_table, [False] + [True] * 8
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", write_table)
        with pytest.raises(OutputError, match="the disk is full") as caught:
            make(corpus, tmp_path / "outputs")
    assert "\n" not in str(caught.value)
    left = partial_files(tmp_path / "outputs")
    assert left and all(not path.name.startswith(".") for path in left)
    for outputs in ("outputs", "unbroken"):
        make(corpus, tmp_path / outputs)
    assert contents(tmp_path / "outputs") == contents(tmp_path / "unbroken")


def test_progress_bar_does_not_count_finished_shards_as_speed(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[Any] = []

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    class RecordedBar(ProgressBar):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings | {"shown": True, "file": Terminal()})
            bars.append(self)

    monkeypatch.setattr(prepare, "ProgressBar", RecordedBar)
    for limit in (30, 10_000):
        run(corpus, tmp_path / "outputs", monkeypatch, limit=limit)
    first, second = bars
    assert first.initial == 0
    assert PIECE_BYTES / 4 <= second.initial <= first.n
    assert second.n == second.total == first.total


def test_report(
    corpus: CorpusConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def report(folder: Path) -> list[list[str]]:
        text = (folder / "report.tsv").read_text(encoding="utf-8")
        return [line.split("\t") for line in text.splitlines()]

    def without_times(folder: Path) -> list[list[str]]:
        return [row[:3] + row[4:] for row in report(folder)]

    with caplog.at_level(logging.INFO):
        prepared = make(corpus, tmp_path / "unbroken")
    rows = report(prepared.folder)
    assert rows[0] == ["doc_id", "line", "status", "seconds", "dropped", "text"]
    expected = []
    for split in ("train", "valid", "test"):
        for path in shard_paths(prepared.folder / "tokens", split):
            columns = pq.read_table(path, columns=["doc_id", "line", "status", "text"]).to_pylist()
            expected += [list(map(str, c.values())) for c in columns if "JAVA!" in c["text"]]
    assert [[*row[:3], row[5]] for row in rows[1:]] == expected and len(expected) > 20
    count = prepared.manifest["status"]["fallback: JException"]
    assert count == len(expected)
    assert f"{count} fallback" in caplog.text and "report.tsv" in caplog.text
    # An interrupted run ends with the same report, and another vocabulary shares it.
    run(corpus, tmp_path / "broken", monkeypatch, limit=22)
    again = make(corpus, tmp_path / "broken")
    other = make(corpus, tmp_path / "broken", min_freq=2)
    assert other.folder != again.folder
    for folder in (again.folder, other.folder):
        assert without_times(folder) == without_times(prepared.folder)
        assert {path.suffix for path in (folder / "tokens").iterdir()} == {".parquet"}
