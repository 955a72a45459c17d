"""Work that is broken off anywhere goes on where it was, and ends with the very same files."""

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

from korlm.config import (
    CorpusConfig,
    DocumentUnit,
    Engine,
    KkmaConfig,
    TokenizerConfig,
    VocabConfig,
)
from korlm.corpus.sources import find_sources
from korlm.dataset import prepare as prepared
from korlm.dataset import prepared as dataset_prepared
from korlm.dataset import shards, text_batches, tokenize
from korlm.dataset import text_batches as dataset_text_batches
from korlm.dataset.journal import Journal
from korlm.dataset.tokenize import tokenize_corpus
from korlm.tokenizers.workers import pool
from korlm.tokenizers.workers.pool import Task
from korlm.utils import progress
from korlm.utils.errors import OutputError
from korlm.utils.progress import ProgressBar

KKMA = KkmaConfig(name="kkma", engine=Engine.konlpy, threads=2, limit_work=False, cache_size_mb=0)
IN_FLIGHT = 4  # batches, of one worker with two threads
BATCH_CHARS, SHARD_CHARS = 40, 400


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CorpusConfig:
    """Some 46 batches in 6 shards of three splits, and a Kkma without Java."""
    monkeypatch.setattr(text_batches, "SHARD_CHARS", SHARD_CHARS)
    monkeypatch.setattr(shards, "ROW_GROUP_CHARS", 150)
    monkeypatch.setattr(dataset_text_batches, "BATCH_CHARS", BATCH_CHARS)
    install_fake_kkma(tmp_path / "fake", monkeypatch)
    dice = random.Random(1)
    words = ["나는", "학교에", "간다", "KBS", "😀", "e\u0301", "JAVA!"]
    lines = [" ".join(dice.choices(words, k=dice.randrange(6))) for _ in range(240)]
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CorpusConfig(name="test", files=[str(path)], document_unit=DocumentUnit.line)


class Counting(pool.TokenizerPool):
    """Counts batches; ends the work after some of them."""

    good = 10_000
    given = 0

    def map(self, batches: Iterable[Task]) -> Iterator[pa.RecordBatch]:
        known: list[bool] = []

        def told() -> Iterator[Task]:
            for batch in batches:
                known.append(isinstance(batch, pa.RecordBatch))
                yield batch

        for number, columns in enumerate(super().map(told())):
            if not known[number]:
                if type(self).given >= type(self).good:
                    raise KeyboardInterrupt
                type(self).given += 1
            yield columns


def run(
    corpus: CorpusConfig,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    good: int = 10_000,
    tokenizer: TokenizerConfig = KKMA,
) -> int:
    """Tokenizes until the end or a number of batches; gives how many went through the pool."""
    monkeypatch.setattr(Counting, "good", good)
    monkeypatch.setattr(Counting, "given", 0)
    monkeypatch.setattr(tokenize, "TokenizerPool", Counting)
    try:
        tokenize_corpus(
            corpus, tokenizer, find_sources(corpus), folder, folder / "cache", progress=False
        )
    except KeyboardInterrupt:
        assert good < 10_000
    return Counting.given


def files(folder: Path) -> dict[str, bytes]:
    """What lies there, byte for byte, but for the time that lines took."""
    found = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        if path.suffix == ".jsonl":
            rows = [json.loads(row) for row in data.splitlines()]
            data = json.dumps([row[:3] + row[4:] for row in rows]).encode()
        found[path.name] = data
    return found


def test_broken_off_again_and_again(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = run(corpus, tmp_path / "unbroken", monkeypatch)
    expected = files(tmp_path / "unbroken")
    assert total > 40 and len(expected) > 10
    assert {Path(name).suffix for name in expected} == {".parquet", ".jsonl"}
    done = 0
    while done < total:
        part = run(corpus, tmp_path / "broken", monkeypatch, good=9)
        assert 0 < part <= 9  # nothing that was done is done again
        done += part
    assert done == total
    # The last shard may have become whole without its journal's end being seen.
    assert run(corpus, tmp_path / "broken", monkeypatch) == 0
    assert files(tmp_path / "broken") == expected


def test_a_tokenizer_in_this_process_needs_no_journal(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eojeol = TokenizerConfig(name="eojeol")
    run(corpus, tmp_path / "tokens", monkeypatch, good=20, tokenizer=eojeol)
    assert {path.suffix for path in (tmp_path / "tokens").iterdir()} == {".parquet"}


KILLED = """
import os, sys
from pathlib import Path
from korlm.config import CorpusConfig, DocumentUnit, Engine, KkmaConfig
from korlm.corpus.sources import find_sources
from korlm.dataset import shards, text_batches
from korlm.dataset import tokenize as analysis
from korlm.dataset.journal import Journal

text, folder, kill_after = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
text_batches.BATCH_CHARS, text_batches.SHARD_CHARS, shards.ROW_GROUP_CHARS = 40, 400, 150

class Killing(Journal):
    def append(self, texts, columns):
        global kill_after
        kill_after -= 1
        super().append(texts, columns)
        if not kill_after:
            os.kill(os.getpid(), 9)

analysis.Journal = Killing
corpus = CorpusConfig(name="test", files=[text], document_unit=DocumentUnit.line)
kkma = KkmaConfig(name="kkma", engine=Engine.konlpy, threads=2, limit_work=False, cache_size_mb=0)
analysis.tokenize_corpus(corpus, kkma, find_sources(corpus), folder, folder / "cache", False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL here")
@pytest.mark.parametrize("batches", [1, 9, 33])
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
    assert run(corpus, folder, monkeypatch) == total - batches
    assert files(folder) == files(tmp_path / "unbroken")


def test_a_journal_that_was_cut(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = run(corpus, tmp_path / "unbroken", monkeypatch)
    folder = tmp_path / "broken"
    run(corpus, folder, monkeypatch, good=5)
    run(corpus, folder, monkeypatch, good=1)
    journals = {path: path.read_bytes() for path in folder.glob("*.journal")}
    longest = max(journals, key=lambda path: len(journals[path]))
    for size in range(0, len(journals[longest]), 999):  # every byte: test_journal.py
        for path, content in journals.items():
            path.write_bytes(content)
        longest.write_bytes(journals[longest][:size])
        # The first batch that is not there is at the cut; those of other shards are kept.
        again = run(corpus, folder, monkeypatch, good=0)
        assert again == 0
        kept = longest.stat().st_size
        assert kept <= size and journals[longest].startswith(longest.read_bytes())
    longest.write_bytes(journals[longest][:-1])
    assert run(corpus, folder, monkeypatch) == total - 5
    assert files(folder) == files(tmp_path / "unbroken")


def test_journals_of_two_shards_and_the_first_is_damaged(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill between a shard's last batch and its name leaves it, and a bad disk after that."""
    total = run(corpus, tmp_path / "unbroken", monkeypatch)
    folder = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "close", lambda self, delete=False: self._file.close())
        run(corpus, folder, patch, good=40)
    first, second = sorted(folder.glob("train-*.journal"))[:2]
    first.with_suffix(".parquet").unlink()
    second.with_suffix(".parquet").unlink(missing_ok=True)
    first.write_bytes(first.read_bytes()[:-1])
    assert run(corpus, folder, monkeypatch) == total - 40 + 1
    assert files(folder) == files(tmp_path / "unbroken")


def test_other_text_under_the_same_name(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tokens"
    run(corpus, folder, monkeypatch, good=5)
    journals = list(folder.glob("*.journal"))
    assert journals
    path = Path(corpus.files[0])
    path.write_text(path.read_text("utf-8").replace("나는", "너는"), encoding="utf-8")
    total = run(corpus, tmp_path / "unbroken", monkeypatch)
    assert run(corpus, folder, monkeypatch) >= total - 1  # a batch may have no 나는
    assert files(folder) == files(tmp_path / "unbroken")


def test_a_full_disk(corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Journal, texts: Sequence[str], columns: pa.RecordBatch) -> None:
        if left.pop():
            return real(self, texts, columns)
        self._file.write(b"half a frame")
        raise OSError(errno.ENOSPC, "No space left on device", str(self.path))

    def prepare(outputs: str) -> dataset_prepared.Prepared:
        vocab = VocabConfig(min_freq=1)
        return prepared.prepare(corpus, KKMA, vocab, tmp_path / outputs, progress=False)

    real, left = Journal.append, [False] + [True] * 12
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", full)
        with pytest.raises(OutputError, match="the disk is full") as caught:
            prepare("outputs")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(Counting, "given", 0)
    monkeypatch.setattr(tokenize, "TokenizerPool", Counting)
    made = prepare("outputs")
    resumed, Counting.given = Counting.given, 0
    unbroken = prepare("unbroken")
    assert resumed == Counting.given - 12
    assert files(made.folder / "tokens") == files(unbroken.folder / "tokens")


def test_a_shard_that_cannot_be_written_ends_the_work(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards.ShardWriter, "_append", full)
    with pytest.raises(OSError, match="No space left"):
        run(corpus, tmp_path / "tokens", monkeypatch, tokenizer=TokenizerConfig(name="eojeol"))
    assert list((tmp_path / "tokens").iterdir()) == []


def test_the_bar_counts_what_was_there_but_not_as_speed(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    class Seen(ProgressBar):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings | {"shown": True, "file": Terminal()})
            made.append(self)

    monkeypatch.setattr(progress, "ProgressBar", Seen)
    for good in (30, 10_000):
        run(corpus, tmp_path / "tokens", monkeypatch, good=good)
    first, second = made
    assert first.initial == 0
    assert first.n == second.initial > 30 * BATCH_CHARS / 2
    assert second.n == second.total == first.total


def test_the_report(
    corpus: CorpusConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def prepare(outputs: str, min_freq: int = 1) -> dataset_prepared.Prepared:
        vocab = VocabConfig(min_freq=min_freq)
        return prepared.prepare(corpus, KKMA, vocab, tmp_path / outputs, progress=False)

    with caplog.at_level(logging.INFO):
        made = prepare("unbroken")

    def report(folder: Path) -> list[list[str]]:
        told = (folder / "report.tsv").read_text(encoding="utf-8")
        return [line.split("\t") for line in told.splitlines()]

    def timeless(folder: Path) -> list[list[str]]:
        return [row[:3] + row[4:] for row in report(folder)]

    rows = report(made.folder)
    assert rows[0] == ["doc_id", "line", "status", "seconds", "dropped", "text"]
    expected = []
    for split in ("train", "valid", "test"):
        for path in shards.shard_paths(made.folder / "tokens", split):
            columns = pq.read_table(path, columns=["doc_id", "line", "status", "text"]).to_pylist()
            expected += [list(map(str, c.values())) for c in columns if "JAVA!" in c["text"]]
    assert [[*row[:3], row[5]] for row in rows[1:]] == expected and len(expected) > 20
    count = made.manifest["status"]["fallback: JException"]
    assert count == len(expected)
    assert f"{count} fallback" in caplog.text and "report.tsv" in caplog.text
    # A run that was broken off ends with the same one, and another vocabulary takes it over.
    for good in (11, 9):
        monkeypatch.setattr(Counting, "good", good)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(tokenize, "TokenizerPool", Counting)
            prepare("broken")
    again = prepare("broken")
    other = prepare("broken", min_freq=2)
    assert other.folder != again.folder
    for folder in (again.folder, other.folder):
        assert timeless(folder) == timeless(made.folder)
        assert {path.suffix for path in (folder / "tokens").iterdir()} == {".parquet"}
