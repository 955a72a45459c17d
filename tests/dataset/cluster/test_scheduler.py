"""A cluster makes the same shards as one machine, byte for byte, even if workers die."""

import functools
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deadly
import pyarrow.parquet as pq
import pytest
from conftest import LIGHT, Command, TinyCorpus

from korlm.dataset import text_batches

pytest.importorskip("distributed", reason="needs korlm[cluster]")

import dask
from distributed import LocalCluster

from korlm.config import (
    ClusterConfig,
    CorpusConfig,
    DocumentUnit,
    KkmaConfig,
    SentencePieceConfig,
    TokenizerConfig,
    UnicodeForm,
)
from korlm.corpus.sources import find_sources
from korlm.dataset.cluster import scheduler
from korlm.dataset.tokenize import tokenize_corpus
from korlm.utils.errors import ClusterError

SYLLABLE = TokenizerConfig(name="syllable")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with two workers, as somebody else may have started them."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as running,
    ):
        yield running.scheduler_address


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CorpusConfig:
    """Some twelve shards of three splits; one line has the mark."""
    monkeypatch.setattr(text_batches, "SHARD_CHARS", 400)
    monkeypatch.setattr(text_batches, "BATCH_CHARS", 60)
    dice = random.Random(1)
    words = ["나는", "학교에", "간다", "KBS", "😀", "e\u0301", "\u1112\u1161\u11ab", "JAVA!"]
    lines = [" ".join(dice.choices(words, k=dice.randrange(6))) for _ in range(600)]
    lines[150] = deadly.MARK
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CorpusConfig(name="test", files=[str(path)], document_unit=DocumentUnit.line)


Make = Callable[..., dict[str, bytes]]


@pytest.fixture
def make(corpus: CorpusConfig, tmp_path: Path) -> Make:
    """Tokenizes into a folder; gives the files that lie there then."""

    def run(
        name: str, cluster: str | None = None, tokenizer: TokenizerConfig = SYLLABLE, **more: Any
    ) -> dict[str, bytes]:
        folder = tmp_path / name / "tokens"
        config = ClusterConfig(cluster=cluster, **more)
        sources, cache = find_sources(corpus), tmp_path / name / "cache"
        tokenize_corpus(corpus, tokenizer, sources, folder, cache, False, config)
        return files(folder)

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_equal_bytes(make: Make, address: str) -> None:
    alone = make("alone")
    assert len(alone) > 9 and all(name.endswith(".parquet") for name in alone)
    assert make("two", address) == alone
    assert make("one", "local", workers=1) == alone


def test_what_was_learned_travels(make: Make, address: str) -> None:
    pytest.importorskip("sentencepiece")
    pieces = SentencePieceConfig(name="sentencepiece", vocab_size=40)
    assert make("two", address, pieces) == make("alone", tokenizer=pieces)


def test_a_single_document_is_split_and_normalized_alike(
    make: Make, corpus: CorpusConfig, address: str
) -> None:
    corpus.document_unit, corpus.unicode = DocumentUnit.file, UnicodeForm.nfkc
    path = Path(corpus.files[0])
    path.write_text(path.read_text(encoding="utf-8").replace("KBS", "ＫＢＳ"), encoding="utf-8")
    alone = make("alone")
    assert {name.split("-")[0] for name in alone} == {"train", "valid", "test"}
    assert make("two", address) == alone
    table = pq.read_table(path.parent / "two" / "tokens" / "train-00000.parquet")
    assert "ＫＢＳ" in " ".join(table["text"].to_pylist())
    assert not any("Ｋ" in morph for morphs in table["morphs"].to_pylist() for morph in morphs)


def test_a_worker_that_dies_in_the_midst(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    marker = tmp_path / "died"
    monkeypatch.setattr(scheduler, "make_shard", functools.partial(deadly.once, str(marker)))
    assert make("two", address) == make("alone")
    assert marker.exists()


def test_a_shard_that_ends_its_workers_is_named(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = make("alone")
    monkeypatch.setattr(scheduler, "make_shard", deadly.always)
    with pytest.raises(ClusterError) as caught:
        make("two", address)
    there = files(tmp_path / "two" / "tokens")
    (missing,) = set(alone) - set(there)
    assert all(there[name] == alone[name] for name in there)
    table = pq.read_table(tmp_path / "alone" / "tokens" / missing, columns=["text"])
    assert deadly.MARK in table["text"].to_pylist()
    told, name = str(caught.value), missing.removesuffix(".parquet")
    assert told.startswith(f"the cluster could not make 1 of the shards: {name} (")
    assert "text.txt#" in told and "died" in told and "\n" not in told
    assert make("two") == alone  # without the cluster, that shard alone


def test_work_that_was_broken_off_goes_on(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone, folder = make("alone"), tmp_path / "two" / "tokens"
    write, seen = Path.write_bytes, []

    def interrupted(path: Path, data: bytes) -> int:
        seen.append(path)
        if len(seen) == 4:  # in the midst of a shard
            write(path, data[:100])
            raise KeyboardInterrupt
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make("two", address)
    monkeypatch.undo()
    monkeypatch.setattr(text_batches, "SHARD_CHARS", 400)
    monkeypatch.setattr(text_batches, "BATCH_CHARS", 60)
    before = files(folder)
    assert 3 <= len(before) < len(alone) and before.items() <= alone.items()
    # Left by a killed process.
    (folder / "train-00001.parquet.tmp").write_bytes(b"half")
    given: list[object] = []
    submit = scheduler.ShardScheduler.submit
    monkeypatch.setattr(
        scheduler.ShardScheduler,
        "submit",
        lambda self, shard: (given.append(shard), submit(self, shard)),
    )
    after = make("two", address)
    assert {name: after[name] for name in alone} == alone
    assert len(given) == len(alone) - len(before)


def test_workers_of_other_versions_are_refused(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        scheduler,
        "versions",
        lambda *_: {"korlm": "9", "Python": "3", "pyarrow": "1", "syllable": "1"},
    )
    with pytest.raises(ClusterError, match=r"not 9.*could differ; install the same versions"):
        make("two", address)


def test_when_nothing_goes_it_ends_soon(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "make_shard", deadly.failing)
    with pytest.raises(ClusterError, match=r"first 4 shards failed.*No space left"):
        make("two", address)


def test_training_prepares_in_the_same_way(
    korlm: Command, tiny: TinyCorpus, address: str, tmp_path: Path
) -> None:
    asked = ("train", *tiny.overrides, *LIGHT, "trainer.max_steps=1")
    made = korlm(*asked, f"prepare.cluster={address}")
    assert made.code == 0, made.err
    assert len(list((tmp_path / "outputs/prepared").glob("*/tokens/*.parquet"))) == 3
    (run,) = (tmp_path / "outputs/runs").iterdir()
    assert f"cluster: {address}" in (run / ".hydra/config.yaml").read_text("utf-8")
    assert (
        "has no effect beside prepared=x"
        in korlm(*asked, "prepared=x", "prepare.cluster=local").error
    )


@pytest.mark.jvm
def test_kkma(make: Make) -> None:
    kkma = KkmaConfig(name="kkma", threads=1, heap_mb=512, cache_size_mb=0)
    alone = make("alone", tokenizer=kkma)
    assert make("one", "local", kkma, workers=1) == alone
