"""Interrupted tokenizing continues shard by shard and ends with the same files."""

import errno
import io
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import install_fake_kkma

from korlm.config import CorpusConfig, DocumentUnit, KkmaConfig, KkmaEngine, VocabConfig
from korlm.corpus.sources import find_sources
from korlm.dataset import prepare, text_batches, tokenize
from korlm.dataset.prepared import Prepared
from korlm.dataset.storage import shard_writer
from korlm.dataset.storage.shards import shard_paths
from korlm.dataset.tokenize import tokenize_corpus
from korlm.tokenizers.workers import pool
from korlm.utils import progress
from korlm.utils.errors import OutputError
from korlm.utils.progress import ProgressBar

KKMA = KkmaConfig(
    name="kkma", engine=KkmaEngine.konlpy, threads=2, limit_work=False, cache_size_mb=0
)
BATCH_CHARS, SHARD_CHARS = 40, 400


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CorpusConfig:
    """About 46 batches in 6 shards of three splits, and a Kkma without Java."""
    monkeypatch.setattr(text_batches, "SHARD_CHARS", SHARD_CHARS)
    monkeypatch.setattr(text_batches, "BATCH_CHARS", BATCH_CHARS)
    monkeypatch.setattr(shard_writer, "ROW_GROUP_CHARS", 150)
    install_fake_kkma(tmp_path / "fake", monkeypatch)
    dice = random.Random(1)
    words = ["나는", "학교에", "간다", "KBS", "😀", "e\u0301", "JAVA!"]
    lines = [" ".join(dice.choices(words, k=dice.randrange(6))) for _ in range(240)]
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CorpusConfig(name="test", files=[str(path)], document_unit=DocumentUnit.line)


class InterruptedPool(pool.TokenizerPool):
    """Counts batches and interrupts the work after ``limit`` of them."""

    limit = 10_000
    count = 0

    def map(self, batches: Iterable[Sequence[str]]) -> Iterator[pa.RecordBatch]:
        for columns in super().map(batches):
            if type(self).count >= type(self).limit:
                raise KeyboardInterrupt
            type(self).count += 1
            yield columns


def run(
    corpus: CorpusConfig,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: int = 10_000,
) -> int:
    """Tokenize to the end or up to a number of batches; return how many were tokenized."""
    monkeypatch.setattr(InterruptedPool, "limit", limit)
    monkeypatch.setattr(InterruptedPool, "count", 0)
    monkeypatch.setattr(tokenize, "TokenizerPool", InterruptedPool)
    try:
        tokenize_corpus(
            corpus, KKMA, find_sources(corpus), folder, folder / "cache", progress=False
        )
    except KeyboardInterrupt:
        assert limit < 10_000
    return InterruptedPool.count


def files(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files, without the measured times."""
    contents = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        if path.suffix == ".jsonl":
            rows = [json.loads(row) for row in data.splitlines()]
            data = json.dumps([row[:3] + row[4:] for row in rows]).encode()
        contents[path.name] = data
    return contents


def test_interrupted_repeatedly(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = run(corpus, tmp_path / "unbroken", monkeypatch)
    expected = files(tmp_path / "unbroken")
    assert total > 40 and len(expected) >= 6
    done, folder = 0, tmp_path / "broken"
    for _ in range(10):
        part = run(corpus, folder, monkeypatch, limit=22)
        assert set(expected) >= {path.name for path in folder.iterdir()}  # no unfinished file
        done += part
        if part < 22:
            break
    assert done < 2 * total  # finished shards are not made again
    assert run(corpus, folder, monkeypatch) == 0
    assert files(folder) == expected


KILLED = """
import os, sys
from pathlib import Path
from korlm.config import CorpusConfig, DocumentUnit, KkmaEngine, KkmaConfig
from korlm.corpus.sources import find_sources
from korlm.dataset import text_batches, tokenize
from korlm.dataset.storage import shard_writer

text, folder, kill_after = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
text_batches.BATCH_CHARS, text_batches.SHARD_CHARS, shard_writer.ROW_GROUP_CHARS = 40, 400, 150

class KilledWriter(shard_writer.ShardWriter):
    def write(self, batch, columns):
        global kill_after
        kill_after -= 1
        super().write(batch, columns)
        if not kill_after:
            os.kill(os.getpid(), 9)

tokenize.ShardWriter = KilledWriter
corpus = CorpusConfig(name="test", files=[text], document_unit=DocumentUnit.line)
options = {"threads": 2, "limit_work": False, "cache_size_mb": 0}
kkma = KkmaConfig(name="kkma", engine=KkmaEngine.konlpy, **options)
tokenize.tokenize_corpus(corpus, kkma, find_sources(corpus), folder, folder / "cache", False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL here")
@pytest.mark.parametrize("batches", [1, 33])
def test_killed(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    total = run(corpus, tmp_path / "unbroken", monkeypatch)
    folder = tmp_path / "killed"
    source = str(Path(tokenize.__file__).resolve().parents[2])
    path = os.pathsep.join([source, os.environ["PYTHONPATH"]])
    arguments = [sys.executable, "-c", KILLED, corpus.files[0], str(folder), str(batches)]
    done = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == -9
    again = run(corpus, folder, monkeypatch)
    assert again == total if batches == 1 else total - 33 <= again < total
    assert files(folder) == files(tmp_path / "unbroken")


def test_full_disk(corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_table(self: pq.ParquetWriter, *arguments: object, **settings: object) -> None:
        if not left.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, *arguments, **settings)

    def make(outputs: str) -> Prepared:
        vocab = VocabConfig(min_freq=1)
        return prepare.prepare(corpus, KKMA, vocab, tmp_path / outputs, progress=False)

    real, left = pq.ParquetWriter.write_table, [False] + [True] * 8
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", write_table)
        with pytest.raises(OutputError, match="the disk is full") as caught:
            make("outputs")
    assert "\n" not in str(caught.value)
    (partial,) = (tmp_path / "outputs/prepared").glob(".*.partial/tokens")
    assert all(path.suffix in (".parquet", ".jsonl") for path in partial.iterdir())
    assert files(make("outputs").folder / "tokens") == files(make("unbroken").folder / "tokens")


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

    monkeypatch.setattr(progress, "ProgressBar", RecordedBar)
    for limit in (30, 10_000):
        run(corpus, tmp_path / "tokens", monkeypatch, limit=limit)
    first, second = bars
    assert first.initial == 0
    assert SHARD_CHARS <= second.initial <= first.n
    assert second.n == second.total == first.total


def test_report(
    corpus: CorpusConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def make(outputs: str, min_freq: int = 1) -> Prepared:
        vocab = VocabConfig(min_freq=min_freq)
        return prepare.prepare(corpus, KKMA, vocab, tmp_path / outputs, progress=False)

    def report(folder: Path) -> list[list[str]]:
        text = (folder / "report.tsv").read_text(encoding="utf-8")
        return [line.split("\t") for line in text.splitlines()]

    def without_times(folder: Path) -> list[list[str]]:
        return [row[:3] + row[4:] for row in report(folder)]

    with caplog.at_level(logging.INFO):
        made = make("unbroken")
    rows = report(made.folder)
    assert rows[0] == ["doc_id", "line", "status", "seconds", "dropped", "text"]
    expected = []
    for split in ("train", "valid", "test"):
        for path in shard_paths(made.folder / "tokens", split):
            columns = pq.read_table(path, columns=["doc_id", "line", "status", "text"]).to_pylist()
            expected += [list(map(str, c.values())) for c in columns if "JAVA!" in c["text"]]
    assert [[*row[:3], row[5]] for row in rows[1:]] == expected and len(expected) > 20
    count = made.manifest["status"]["fallback: JException"]
    assert count == len(expected)
    assert f"{count} fallback" in caplog.text and "report.tsv" in caplog.text
    # An interrupted run ends with the same report, and another vocabulary shares it.
    monkeypatch.setattr(InterruptedPool, "limit", 22)
    monkeypatch.setattr(InterruptedPool, "count", 0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tokenize, "TokenizerPool", InterruptedPool)
        make("broken")
    again, other = make("broken"), make("broken", min_freq=2)
    assert other.folder != again.folder
    for folder in (again.folder, other.folder):
        assert without_times(folder) == without_times(made.folder)
        assert {path.suffix for path in (folder / "tokens").iterdir()} == {".parquet"}
