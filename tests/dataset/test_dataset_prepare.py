"""A prepared corpus is complete, reused, and refused if it is damaged."""

import dataclasses
import importlib.metadata
import io
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import flip_bit, new_checksums, note_disk, sentences
from fakes import install_fake_kkma, interrupt_after
from filelock import FileLock
from one_line import error_of

from korlm.config import (
    ClusterConfig,
    CorpusConfig,
    DocumentUnit,
    KkmaConfig,
    KkmaEngine,
    Quoting,
    SentencePieceConfig,
    Separator,
    TokenizerConfig,
    UnicodeForm,
    VocabConfig,
)
from korlm.corpus.normalization import normalize
from korlm.corpus.pieces import digest_of, plan_pieces
from korlm.corpus.sources import find_sources
from korlm.corpus.splits import split_of
from korlm.dataset import prepare as prepare_module
from korlm.dataset import text_batches
from korlm.dataset.executors import base
from korlm.dataset.fingerprint import (
    hash_json,
    prepared_fingerprint,
    text_settings,
    token_settings,
)
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared, open_prepared
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.storage import shards
from korlm.dataset.storage.piece_files import read_record
from korlm.dataset.storage.shards import shard_paths
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.columns import to_record_batch
from korlm.tokenizers.registry import train_tokenizer
from korlm.tokenizers.workers import line_cache
from korlm.utils.errors import (
    CorpusError,
    KorlmError,
    OutputError,
    PreparedError,
    TokenizerError,
    VocabError,
)

EOJEOL = TokenizerConfig(name="eojeol")
TRAIN = "나는 간다\n\n나는 <eos> KBS\n나는 간다 12\n"
VALID = "나는 온다\n없는 말 KBS\n"


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusConfig:
    """Return a corpus of two small files, one per split."""
    files = {}
    for split, text in (("train", TRAIN), ("valid", VALID)):
        path = tmp_path / "text" / f"{split}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        files[split] = [str(path)]
    return CorpusConfig(name="given", **files)


@pytest.fixture
def large_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CorpusConfig:
    """Return a corpus of one file with 400 documents, which has several pieces and many batches."""
    monkeypatch.setattr(text_batches, "BATCH_CHARS", 100)
    return corpus_of(tmp_path / "many.txt", random_text(1), document_unit=DocumentUnit.line)


def corpus_of(path: Path, text: str, **settings: Any) -> CorpusConfig:
    """Return a corpus of one file."""
    path.write_text(text, encoding="utf-8")
    return CorpusConfig(name=path.stem, files=[str(path)], **settings)


def random_text(seed: int, lines: int = 400) -> str:
    rng = random.Random(seed)
    words = ["나는", "너는", "학교에", "간다", "온다", "KBS", "12", "<eos>", "😀", "e\u0301"]
    return "".join(" ".join(rng.choices(words, k=rng.randrange(9))) + "\n" for _ in range(lines))


def make(
    corpus: CorpusConfig,
    outputs: Path,
    tokenizer: TokenizerConfig = EOJEOL,
    vocab: VocabConfig | None = None,
    piece_bytes: int = 1000,
) -> Prepared:
    pieces = ClusterConfig(piece_mb=piece_bytes / 1e6)
    return prepare(corpus, tokenizer, vocab or VocabConfig(), outputs, False, pieces)


def forbid_tokenizing(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(config: TokenizerConfig) -> None:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(base, "TokenizerPool", explode)


def visible_names(folder: Path) -> list[str]:
    """Return the names of the files in a folder, without hidden files."""
    if not folder.exists():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files that depend only on text and settings."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def assert_error(kind: type[KorlmError], do: Callable[[], object], *words: str) -> None:
    error_of(do, *words, kind=kind)


# Content


def test_the_folder(corpus: CorpusConfig, outputs: Path) -> None:
    prepared = make(corpus, outputs)
    assert prepared.folder == outputs / "prepared" / f"given-eojeol-{prepared.fingerprint}"
    assert visible_names(outputs / "prepared") == [prepared.folder.name]
    assert sorted(contents(prepared.folder)) == [
        "counts/00000.parquet",
        "ids/train-00000.npy",
        "ids/valid-00000.npy",
        "manifest.json",
        "report.tsv",
        "spelling.npz",
        "tokens/train-00000.parquet",
        "tokens/valid-00000.parquet",
        "vocab.tsv",
    ]
    assert (prepared.folder / "spelling.npz").is_file()
    manifest = json.loads((prepared.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest == prepared.manifest
    assert manifest["settings"]["tokenizer"] == {"name": "eojeol"}
    assert manifest["settings"]["vocab"]["min_freq"] == 2
    assert manifest["settings"]["corpus"]["document_unit"] == "file"
    assert (manifest["status"], manifest["num_dropped"]) == ({"empty": 1, "ok": 5}, 0)
    report = (prepared.folder / "report.tsv").read_text(encoding="utf-8")
    assert report == "doc_id\tline\tstatus\tseconds\tdropped\ttext\n"


def test_ids_and_counts_by_hand(corpus: CorpusConfig, outputs: Path) -> None:
    prepared = make(corpus, outputs)
    assert prepared.vocab.tokens[4:] == ["나는", "간다"]
    # Three lines end with <eos>; the literal <eos>, KBS and 12 are unknown.
    assert prepared.vocab.counts == [0, 3, 0, 3, 3, 2]
    assert prepared.ids("train").tolist() == [4, 5, 3, 4, 1, 1, 3, 4, 5, 1, 3]
    assert prepared.ids("valid").tolist() == [4, 1, 3, 1, 1, 1, 3]
    unknown = CharNgramModel.train(["나는", "간다", "<eos>", "KBS", "12"])
    costs = {
        "train": sum(unknown.nats(["<eos>", "KBS", "12"])),
        "valid": sum(unknown.nats(["온다", "없는", "말", "KBS"])),
    }
    counts = ("num_tokens", "num_unk", "num_eojeol", "num_chars", "num_lines")
    for split, expected in {
        "train": (11, 3, 8, 6 + 13 + 9, 4),
        "valid": (7, 4, 5, 6 + 9, 2),
    }.items():
        stats = prepared.stats[split]
        assert tuple(getattr(stats, name) for name in counts) == expected
        assert stats.spelling_nats == pytest.approx(costs[split])


def test_lowered_tokens_are_known_but_pay_for_spelling(corpus: CorpusConfig, outputs: Path) -> None:
    vocab = VocabConfig(min_freq=1, lowercase=True, normalize_numbers=True)
    prepared = make(corpus, outputs, vocab=vocab)
    assert prepared.stats["train"].num_unk == 1  # the literal <eos>
    model = CharNgramModel.train(["나는", "간다", "<eos>", "KBS", "12"])
    cost = float(model.nats(["<eos>", "KBS", "12"]).sum())
    assert prepared.stats["train"].spelling_nats == pytest.approx(cost)


def test_splits_of_a_larger_corpus(large_corpus: CorpusConfig, outputs: Path) -> None:
    prepared = make(large_corpus, outputs)
    assert sorted(prepared.stats) == ["test", "train", "valid"]
    assert len(shard_paths(prepared.folder / "tokens", "train")) > 3
    lines = random_text(1).split("\n")[:-1]
    assert sum(stats.num_lines for stats in prepared.stats.values()) == len(lines)
    for split, stats in prepared.stats.items():
        ids = np.asarray(prepared.ids(split))
        mine = [line for line in lines if split_of(normalize(line), 0.1, 0.1) == split]
        assert len(ids) == stats.num_tokens
        assert int((ids == 1).sum()) == stats.num_unk
        assert int((ids == 3).sum()) == sum(bool(line.split()) for line in mine)
        assert stats.num_eojeol == sum(len(line.split()) for line in mine)


def test_kkma_in_child_processes(
    corpus: CorpusConfig, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_fake_kkma(tmp_path / "fake", monkeypatch)
    Path(corpus.train[0]).write_text("나는\n\nJAVA! 나\n", encoding="utf-8")
    plain = partial(KkmaConfig, name="kkma", engine=KkmaEngine.konlpy, limit_work=False)
    kkma = plain(threads=1)
    prepared = make(corpus, outputs, kkma)
    assert prepared.folder.name.startswith("given-kkma-")
    assert prepared.manifest["status"] == {"empty": 1, "fallback: JException": 1, "ok": 3}
    assert prepared.vocab.tokens[4:] == ["나"]
    assert prepared.ids("train").tolist() == [4, 1, 3, 1, 4, 3]
    # Speed has no effect.
    forbid_tokenizing(monkeypatch)
    faster = plain(workers=3, threads=2, heap_mb=2048, cache_size_mb=0)
    assert make(corpus, outputs, faster).folder == prepared.folder


@pytest.mark.parametrize("state", ["new", "damaged", "filled"])
def test_the_line_cache_changes_no_byte(
    corpus: CorpusConfig,
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    state: str,
) -> None:
    fake = install_fake_kkma(tmp_path / "fake", monkeypatch)
    kkma = partial(KkmaConfig, name="kkma", engine=KkmaEngine.konlpy, threads=1)
    without = make(corpus, tmp_path / "none", kkma(cache_size_mb=0))
    assert not (tmp_path / "none" / "cache").exists()
    cache = outputs / "cache"
    if state == "damaged":
        cache.mkdir(parents=True)
        (cache / line_cache.FILE).write_bytes(b"x" * 10_000)
    elif state == "filled":
        make(corpus, tmp_path / "first", kkma())
        shutil.copytree(tmp_path / "first" / "cache", cache)
        (fake / "no_java").touch()
    made, expected = contents(make(corpus, outputs, kkma()).folder), contents(without.folder)
    del made["manifest.json"], expected["manifest.json"]  # they record cache_size_mb
    assert made == expected
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == (state == "damaged")


FINGERPRINTS = {  # with konlpy 0.6.0; after a change, users have to prepare again
    "eojeol": "d1009e597fd0",
    "syllable": "c86409797426",
    "jamo": "70d2a11fd8c9",
    "kkma": "84da37904ffa",
}


def fingerprint_of(
    corpus: CorpusConfig, tokenizer: TokenizerConfig = EOJEOL, vocab: VocabConfig | None = None
) -> str:
    """Return the fingerprint that a corpus would have, without preparing it."""
    pieces = plan_pieces(corpus, find_sources(corpus), 1000)
    digests = [digest_of(corpus, piece)[0] for piece in pieces]
    tokens = hash_json(text_settings(token_settings(corpus, tokenizer), pieces, digests))
    return prepared_fingerprint(tokens, vocab or VocabConfig())


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprints_stay(name: str, corpus: CorpusConfig) -> None:
    if name == "kkma" and importlib.metadata.version("konlpy") != "0.6.0":
        pytest.skip("another konlpy")
    kind = KkmaConfig if name == "kkma" else TokenizerConfig
    assert fingerprint_of(corpus, kind(name=name)) == FINGERPRINTS[name]


# Added files


class CountingPool:
    """A slow tokenizer in this process: every eojeol is a token; it records its input."""

    lines: ClassVar[list[str]] = []

    def __init__(self, *args: object) -> None:
        self.lines.clear()

    def __enter__(self) -> "CountingPool":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def map(self, batches: Iterable[Any]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if not isinstance(batch, pa.RecordBatch):
                self.lines.extend(batch)
                units = [text.split() for text in batch]
                batch = to_record_batch(
                    [Analysis(u, ["N"] * len(u), [*range(len(u))]) for u in units]
                )
            yield batch


@pytest.mark.parametrize("document", [DocumentUnit.file, DocumentUnit.line])
def test_a_corpus_that_grows_has_its_new_lines_tokenized_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    document: DocumentUnit,
) -> None:
    monkeypatch.setattr(base, "TokenizerPool", CountingPool)
    monkeypatch.setattr(text_batches, "BATCH_CHARS", 500)
    kkma = KkmaConfig(name="kkma", engine=KkmaEngine.konlpy)
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in "bcdefghijk":
        (texts / f"{name}.txt").write_text(random_text(ord(name), 60), encoding="utf-8")
    corpus = CorpusConfig(
        name="growing",
        files=[str(texts)],
        document_unit=document,
        valid_fraction=0.3,
        test_fraction=0 if document is DocumentUnit.file else 0.1,
    )
    before = {normalize(line) for path in texts.iterdir() for line in lines_of(path)}
    make(corpus, tmp_path / "outputs", kkma)
    assert sorted(CountingPool.lines) == sorted(line for line in before if line.strip())

    # A new first file changes the lines of every batch; another file gets longer.
    added = [*sentences(50, 1), "나는 간다", ""]
    (texts / "a.txt").write_text("\n".join(added) + "\n", encoding="utf-8")
    with open(texts / "c.txt", "a", encoding="utf-8") as file:
        file.write("맨 끝에 새 줄\n")
    with caplog.at_level(logging.INFO):
        grown = make(corpus, tmp_path / "outputs", kkma)
    new = {*added, "맨 끝에 새 줄"} - before
    assert 40 < len(new) < 60 and sorted(CountingPool.lines) == sorted(new)

    assert f"hits, {len(new)} misses (kkma)" in caplog.text

    scratch = make(corpus, tmp_path / "elsewhere", kkma)
    assert len(CountingPool.lines) > len(new) * 5
    assert contents(scratch.folder) == contents(grown.folder)
    assert np.array_equal(grown.ids("train"), scratch.ids("train"))


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


# Trainable tokenizers

PIECES = SentencePieceConfig(name="sentencepiece", vocab_size=60)


@pytest.fixture
def learnable(corpus: CorpusConfig) -> CorpusConfig:
    pytest.importorskip("sentencepiece")
    Path(corpus.train[0]).write_text("\n".join(sentences(60, 1)) + "\n", encoding="utf-8")
    return corpus


def test_pieces_are_learned_from_train_alone(learnable: CorpusConfig, outputs: Path) -> None:
    first = make(learnable, outputs, PIECES)
    assert first.tokenizer_model == (first.folder / "sentencepiece.model").read_bytes()
    assert first.manifest["settings"]["tokenizer"]["vocab_size"] == 60
    assert open_prepared(first.folder).tokenizer_model == first.tokenizer_model
    # The text of valid does not change the learned pieces.
    Path(learnable.valid[0]).write_text("\n".join(["뷁뷁 없는말"] * 500) + "\n", encoding="utf-8")
    second = make(learnable, outputs, PIECES)
    assert second.folder != first.folder and second.tokenizer_model == first.tokenizer_model
    Path(learnable.train[0]).write_text("\n".join(sentences(90, 2)) + "\n", encoding="utf-8")
    assert make(learnable, outputs, PIECES).tokenizer_model != first.tokenizer_model


def test_pieces_of_documents_that_are_dealt(outputs: Path, tmp_path: Path) -> None:
    """The tokenizer learns only from the documents of train, even within one file."""
    pytest.importorskip("sentencepiece")
    lines = sentences(300, 4)
    text = "\n".join(lines) + "\n"
    corpus = corpus_of(tmp_path / "dealt.txt", text, document_unit=DocumentUnit.line)
    prepared = make(corpus, outputs, PIECES)
    train = prepared.texts("train")
    assert 0 < len(train) < len(lines)
    model = train_tokenizer(PIECES, train)
    assert prepared.tokenizer_model == model != train_tokenizer(PIECES, lines)


def test_other_settings_make_other_pieces(learnable: CorpusConfig, outputs: Path) -> None:
    folders = {make(learnable, outputs, PIECES).folder}
    for changed in ({"vocab_size": 65}, {"character_coverage": 0.99}):
        folders.add(make(learnable, outputs, dataclasses.replace(PIECES, **changed)).folder)  # type: ignore[arg-type]
    assert len(folders) == 3


def test_another_vocabulary_shares_the_pieces(
    learnable: CorpusConfig, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(learnable, outputs, PIECES)
    forbid_tokenizing(monkeypatch)
    second = make(learnable, outputs, PIECES, VocabConfig(min_freq=1))
    assert second.folder != first.folder and second.tokenizer_model == first.tokenizer_model


def test_damaged_pieces(learnable: CorpusConfig, outputs: Path) -> None:
    folder = make(learnable, outputs, PIECES).folder
    path = folder / "sentencepiece.model"
    for damage in (becomes(""), becomes("x"), Path.unlink):
        damage(path)
        assert_error(PreparedError, lambda: open_prepared(folder), str(path), "delete the folder")


def test_too_few_pieces_leave_nothing(learnable: CorpusConfig, outputs: Path) -> None:
    few = dataclasses.replace(PIECES, vocab_size=5)
    assert_error(TokenizerError, lambda: make(learnable, outputs, few), "tokenizer.vocab_size=5")
    assert not (outputs / "prepared").exists()


# Reuse


def test_the_same_settings_find_it(
    corpus: CorpusConfig, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(corpus, outputs)
    before = contents(first.folder)
    forbid_tokenizing(monkeypatch)
    monkeypatch.setattr(prepare_module, "assemble", None)
    monkeypatch.setattr(prepare_module, "scan_piece", None)
    second = make(corpus, outputs)
    assert (second.folder, second.stats) == (first.folder, first.stats)
    assert contents(second.folder) == before
    assert open_prepared(first.folder).vocab.tokens == first.vocab.tokens


def test_a_name_with_brackets_shares_the_tokens(
    corpus: CorpusConfig, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.name = "x[1]"
    make(corpus, outputs)
    forbid_tokenizing(monkeypatch)
    make(corpus, outputs, vocab=VocabConfig(min_freq=1))


def test_an_earlier_corpus_whose_pieces_cannot_be_read(
    corpus: CorpusConfig, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(corpus, outputs)
    new_checksums(first.folder / "manifest.json", remote="s3://bucket/pieces")

    def deny(url: str, kind: type[KorlmError]) -> Path:
        raise kind(f"{url}: access is denied")

    monkeypatch.setattr(prepare_module, "to_path", deny)
    other = make(corpus, outputs, vocab=VocabConfig(min_freq=1))
    assert other.folder != first.folder and splits_in(other) == splits_in(first)


def test_another_vocabulary_shares_the_tokens(
    large_corpus: CorpusConfig, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(large_corpus, outputs)
    forbid_tokenizing(monkeypatch)
    other = make(large_corpus, outputs, vocab=VocabConfig(min_freq=1, lowercase=True))
    assert other.folder != first.folder
    assert "kbs" in other.vocab.tokens and "kbs" not in first.vocab.tokens
    names = sorted(path.name for path in (first.folder / "tokens").iterdir())
    assert names == sorted(path.name for path in (other.folder / "tokens").iterdir())
    for name in names:
        one, two = first.folder / "tokens" / name, other.folder / "tokens" / name
        assert one.samefile(two) or one.read_bytes() == two.read_bytes()
    # Either of them may be deleted.
    shutil.rmtree(first.folder)
    assert len(open_prepared(other.folder).ids("train")) > 0
    assert make(large_corpus, outputs).stats == first.stats


def test_tokens_are_copied_where_links_are_not_to_be_had(
    corpus: CorpusConfig, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*args: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    prepared = make(corpus, outputs)
    assert len(shard_paths(prepared.folder / "tokens", "train")) == 1


def test_moved_files_are_the_same_text(
    corpus: CorpusConfig, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(corpus, outputs)
    shutil.move(tmp_path / "text", tmp_path / "elsewhere")
    corpus.train = [str(tmp_path / "elsewhere" / "train.txt")]
    corpus.valid = [str(tmp_path / "elsewhere" / "valid.txt")]
    corpus.source = "https://example.org"
    forbid_tokenizing(monkeypatch)
    assert make(corpus, outputs).folder == first.folder


def test_settings_of_the_text_make_another_corpus(corpus: CorpusConfig, outputs: Path) -> None:
    fingerprints = {make(corpus, outputs).fingerprint, fingerprint_of(corpus)}
    assert len(fingerprints) == 1
    changes: dict[str, Any] = {
        "document_unit": DocumentUnit.blank_line,
        "unicode": UnicodeForm.nfkc,
        "quoting": Quoting.none,
        "separator": Separator.pipe,
        "skip_without_text": True,
        "text_column": "document",
        "encoding": "cp949",
    }
    for key, value in changes.items():
        fingerprints.add(fingerprint_of(dataclasses.replace(corpus, **{key: value})))
    assert len(fingerprints) == 1 + len(changes)


def test_other_text_makes_another_corpus(corpus: CorpusConfig) -> None:
    train, fingerprints = Path(corpus.train[0]), {fingerprint_of(corpus)}
    swapped = dataclasses.replace(corpus, train=corpus.valid, valid=corpus.train)
    fingerprints.add(fingerprint_of(swapped))
    for text in (TRAIN.replace("간다", "온다"), TRAIN + "\n"):
        train.write_text(text, encoding="utf-8")
        fingerprints.add(fingerprint_of(corpus))
    renamed = train.rename(train.with_name("other.txt"))  # documents are named after files
    corpus.train = [str(renamed)]
    fingerprints.add(fingerprint_of(corpus))
    assert len(fingerprints) == 5


def test_tokenizer_and_vocabulary_make_another_corpus(corpus: CorpusConfig) -> None:
    vocabs = [
        VocabConfig(min_freq=1),
        VocabConfig(max_size=1),
        VocabConfig(lowercase=True),
        VocabConfig(normalize_numbers=True),
    ]
    fingerprints = {fingerprint_of(corpus, EOJEOL, vocab) for vocab in vocabs}
    fingerprints |= {fingerprint_of(corpus, TokenizerConfig(name="syllable"))}
    assert len(fingerprints | {fingerprint_of(corpus)}) == 6


def test_shares_count_where_documents_are_dealt(large_corpus: CorpusConfig, outputs: Path) -> None:
    first = make(large_corpus, outputs)
    large_corpus.valid_fraction = 0.3
    second = make(large_corpus, outputs)
    assert second.fingerprint != first.fingerprint
    assert second.stats["valid"].num_lines > first.stats["valid"].num_lines


def test_fractions_have_no_effect_with_fixed_splits(
    corpus: CorpusConfig, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(corpus, outputs)
    corpus.valid_fraction = 0.3
    forbid_tokenizing(monkeypatch)
    assert make(corpus, outputs).folder == first.folder


# Interruptions


def test_a_failure_leaves_complete_pieces_and_the_next_run_continues(
    large_corpus: CorpusConfig, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(large_corpus, tmp_path / "unbroken")
    for num_batches in (30, 10):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupt_after(num_batches, patch)
            make(large_corpus, outputs)
        assert visible_names(outputs / "prepared") == []
        (partial,) = (outputs / "prepared").glob(".*.partial")
    pieces = len(whole.manifest["pieces"])
    records = [read_record(partial, number) for number in range(pieces)]
    finished = [record for record in records if record]
    assert 3 < len(finished) < pieces
    left = [p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file()]
    names = [n.replace("#", f"{i:05}") for i, r in enumerate(records) if r for n in r.files]
    markers = [f"pieces/{i:05}.json" for i, record in enumerate(records) if record]
    assert sorted(left) == sorted([*names, *markers])
    kept = sum(counts.num_lines for record in finished for counts in record.splits.values())

    counts = interrupt_after(10_000, monkeypatch)
    prepared = make(large_corpus, outputs)
    assert counts.total() == 400 - kept  # nothing was tokenized twice
    assert prepared.folder.name == whole.folder.name
    assert contents(prepared.folder) == contents(whole.folder)
    assert not list((outputs / "prepared").glob(".*.partial"))


def test_leftovers_of_a_kill_at_the_end_are_removed(corpus: CorpusConfig, outputs: Path) -> None:
    """Killed after the folder got its name, while intermediate files were being removed."""
    prepared = prepare(corpus, EOJEOL, VocabConfig(), outputs, progress=False)
    assert not list(prepared.folder.parent.glob(".*")), "no lock is left"
    name, root = prepared.folder.name.rpartition("-")[0], prepared.folder.parent
    left = root / f".{name}-{prepared.manifest['tokens_fingerprint']}.partial"
    lock = left.with_suffix(".lock")
    (left / "tokens").mkdir(parents=True)
    with FileLock(lock):  # another process builds another vocabulary from them
        prepare(corpus, EOJEOL, VocabConfig(), outputs, progress=False)
        assert left.is_dir()
    prepare(corpus, EOJEOL, VocabConfig(), outputs, progress=False)
    assert not left.exists() and not lock.exists()
    lock.touch()  # of an earlier version
    prepare(corpus, EOJEOL, VocabConfig(), outputs, progress=False)
    assert not lock.exists()


def test_a_failure_during_encoding_leaves_no_visible_files(
    corpus: CorpusConfig, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*args: object) -> None:
        raise OSError(28, "No space left on device", "vocab.tsv")

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module.Vocab, "save", no_space)
        assert_error(OutputError, lambda: make(corpus, outputs), "disk is full", "vocab.tsv")
    assert visible_names(outputs / "prepared") == []
    prepared = make(corpus, outputs)
    assert visible_names(outputs / "prepared") == [prepared.folder.name]


def test_a_vocabulary_that_cannot_be_made_leaves_the_tokens_for_the_next(
    corpus: CorpusConfig, outputs: Path
) -> None:
    impossible = VocabConfig(min_freq=100)
    assert_error(VocabError, lambda: make(corpus, outputs, vocab=impossible), "vocab.min_freq=100")
    assert visible_names(outputs / "prepared") == []
    assert make(corpus, outputs).stats["train"].num_tokens == 11


def test_a_file_in_the_way(corpus: CorpusConfig, outputs: Path) -> None:
    outputs.write_text("a file", encoding="utf-8")
    assert_error(OutputError, lambda: make(corpus, outputs), str(outputs))


OTHER = """
import sys, time
from pathlib import Path
from korlm.config import CorpusConfig, TokenizerConfig, VocabConfig
from korlm.dataset.executors import base
from korlm.dataset.prepare import prepare

class SlowPool(base.TokenizerPool):
    def map(self, batches):
        print("tokenizing", flush=True)
        for analyses in super().map(batches):
            time.sleep(0.5)
            yield analyses

base.TokenizerPool = SlowPool
train, valid, outputs = sys.argv[1:]
corpus = CorpusConfig(name="given", train=[train], valid=[valid])
prepared = prepare(corpus, TokenizerConfig(name="eojeol"), VocabConfig(), Path(outputs))
print(prepared.folder)
"""


def test_processes_that_need_the_same_tokens_make_them_once(
    corpus: CorpusConfig,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = str(Path(prepare_module.__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    forbid_tokenizing(monkeypatch)
    with (
        subprocess.Popen(
            [sys.executable, "-c", OTHER, *corpus.train, *corpus.valid, str(outputs)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        ) as other,
        ThreadPoolExecutor() as threads,
        caplog.at_level("INFO"),
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "tokenizing\n"
        # The other process holds the lock. A file lock also excludes other threads.
        same = threads.submit(make, corpus, outputs)
        unlike = threads.submit(make, corpus, outputs, EOJEOL, VocabConfig(min_freq=1))
        folders = [same.result(timeout=60).folder, unlike.result(timeout=60).folder]
        assert other.stdout.read() == f"{folders[0]}\n"
    assert other.returncode == 0
    assert caplog.text.count("waiting for it") == 2
    assert visible_names(outputs / "prepared") == sorted(folder.name for folder in folders)
    assert [open_prepared(folder).ids("train").size for folder in folders] == [11, 11]


# Errors


def test_no_document_falls_to_a_split(tmp_path: Path, outputs: Path) -> None:
    corpus = corpus_of(tmp_path / "few.txt", "가 나\n\n다 라\n")
    too_few = "1 document with 2 lines of text cannot fill train, valid and test"
    assert_error(CorpusError, lambda: make(corpus, outputs), "no text for valid", too_few)
    only_train = CorpusConfig(name="few", train=corpus.files)
    assert_error(
        CorpusError, lambda: make(only_train, outputs), "no text for valid", "corpus.valid="
    )
    line = corpus_of(tmp_path / "line.txt", "가 나 다 " * 1000)
    too_few = "1 document with 1 line of text cannot fill train, valid and test"
    assert_error(CorpusError, lambda: make(line, outputs), "no text for ", too_few)
    none = dataclasses.replace(line, valid_fraction=0.0)
    assert_error(CorpusError, lambda: make(none, outputs), "corpus.valid_fraction=0.0")
    assert visible_names(outputs / "prepared") == []
    assert not list((outputs / "prepared").glob(".*.partial"))


def splits_in(prepared: Prepared) -> dict[str, list[tuple[str, int, str]]]:
    """Return document, number and text of the lines of each split."""
    lines: dict[str, list[tuple[str, int, str]]] = {"train": [], "valid": [], "test": []}
    for split in lines:
        for path in shard_paths(prepared.folder / "tokens", split):
            rows = pq.read_table(path, columns=["doc_id", "line", "text"]).to_pylist()
            lines[split] += [tuple(row.values()) for row in rows]
    return lines


def test_a_single_document_is_split_by_blocks(
    tmp_path: Path, outputs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"줄 {number:02}" for number in range(50)]
    corpus = corpus_of(tmp_path / "book.txt", "\n".join(texts) + "\n")
    prepared = make(corpus, outputs)
    lines = [("book.txt", number, text) for number, text in enumerate(texts, 1)]
    assert splits_in(prepared) == {"train": lines[:40], "valid": lines[40:45], "test": lines[45:]}
    (message,) = [r.getMessage() for r in caplog.records if "contiguous blocks" in r.getMessage()]
    assert "1 document cannot fill train, valid and test" in message
    assert "train 80%, valid 10%, test 10%" in message
    shares = dataclasses.replace(corpus, valid_fraction=0.5, test_fraction=0.0)
    halves = {"train": lines[:25], "valid": lines[25:], "test": []}
    assert splits_in(make(shares, outputs)) == halves
    # The tokenizer is trained on the same block.
    pieces = dataclasses.replace(PIECES, vocab_size=30)
    model = train_tokenizer(pieces, iter(texts[:40]))
    assert make(corpus, outputs, pieces).tokenizer_model == model


def test_few_documents_are_split_by_blocks_only_if_the_hash_leaves_a_split_empty(
    tmp_path: Path, outputs: Path
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    keys = [f"{number:03}" for number in range(200)]
    split_by_key = {key: split_of(key, 0.1, 0.1) for key in keys}
    train = [key for key in keys if split_by_key[key] == "train"][:12]
    for key in train:
        (texts / f"{key}.txt").write_text(f"{key}\n", encoding="utf-8")
    corpus = CorpusConfig(name="few", files=[str(texts)])
    vocab = VocabConfig(min_freq=1)
    few = splits_in(make(corpus, outputs, vocab=vocab))
    assert [line[2] for lines in few.values() for line in lines] == train and all(few.values())
    for split in ("valid", "test"):
        key = next(key for key in keys if split_by_key[key] == split)
        (texts / f"{key}.txt").write_text(f"{key}\n", encoding="utf-8")
    for split, lines in splits_in(make(corpus, outputs, vocab=vocab)).items():
        assert lines and {split_by_key[line[2]] for line in lines} == {split}


@pytest.mark.parametrize(
    ("unicode", "tokens"),
    [
        (UnicodeForm.nfc, ["Ａ", "가나", "¨"]),
        (UnicodeForm.nfkc, ["A", "가나", "\u0308"]),
        (UnicodeForm.none, ["\ufeffＡ", "가\u200b나", "¨", "\u202a"]),
    ],
)
def test_unicode_of_tokens(
    corpus: CorpusConfig,
    outputs: Path,
    caplog: pytest.LogCaptureFixture,
    unicode: UnicodeForm,
    tokens: list[str],
) -> None:
    lines = ["", "\ufeffＡ 가\u200b나 ¨", "\u202a", "\r나"]
    Path(corpus.train[0]).write_bytes("\n".join(lines).encode())
    corpus.unicode = unicode
    prepared = make(corpus, outputs, vocab=VocabConfig(min_freq=1))
    assert set(prepared.vocab.tokens[4:]) == {*tokens, "나"}
    # Text is stored unchanged, and counted in normalized form.
    assert [line[2] for line in splits_in(prepared)["train"]] == lines
    num_chars = {UnicodeForm.nfc: 10, UnicodeForm.nfkc: 11, UnicodeForm.none: 14}[unicode]
    assert prepared.stats["train"].num_chars == num_chars
    assert ("kept in" if unicode is UnicodeForm.none else "left out of") in caplog.text
    assert "invisible characters" in caplog.text and ": 3, U+" in caplog.text
    assert "carriage returns within lines, read as blanks: 1" in caplog.text


def test_a_split_of_blank_lines_is_none(tmp_path: Path, outputs: Path) -> None:
    keys = {split_of(str(n), 0.3, 0.0): str(n) for n in range(50)}
    rows = [{"text": "가 나", "id": keys["train"]}, {"text": " \n ", "id": keys["valid"]}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    settings = {"document_column": "id", "valid_fraction": 0.3, "test_fraction": 0.0}
    corpus = corpus_of(tmp_path / "few.jsonl", text, **settings)
    assert_error(CorpusError, lambda: make(corpus, outputs), "no text for valid")


def test_bad_text_shows_before_any_work(
    corpus: CorpusConfig, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(corpus.valid[0], "ab") as file:
        file.write(b"\xff\n")
    forbid_tokenizing(monkeypatch)
    assert_error(CorpusError, lambda: make(corpus, outputs), corpus.valid[0], "line 3, byte 1")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode here")
def test_a_file_name_that_is_no_utf8(corpus: CorpusConfig, outputs: Path) -> None:
    old = Path(corpus.train[0])
    name = os.fsdecode(os.fsencode(old.parent) + "/글.txt".encode("cp949"))
    corpus.train = [str(old.rename(name))]
    prepared = make(corpus, outputs)
    assert open_prepared(prepared.folder).manifest["settings"]["corpus"]["train"] == [name]


# Damage


Damage = Callable[[Path], object]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def becomes(content: str) -> Damage:
    return lambda path: path.write_text(content)


def changed(**values: Any) -> Damage:
    """Change values of the manifest deliberately, with matching checksums."""
    return lambda path: new_checksums(path, **values)


ANY_DAMAGE: list[Damage] = [Path.unlink, cut, becomes(""), becomes("something else\n")]
DAMAGE: dict[str, list[Damage]] = {
    "manifest.json": [
        *ANY_DAMAGE,
        *map(becomes, ("[]", "{}", '{"a":' + "[" * 100_000)),
        lambda path: path.write_text(path.read_text("utf-8").replace("num_chars", "num_lines")),
        *(changed(format=99), changed(fingerprint="0" * 12), changed(tokens_fingerprint="0" * 12)),
        *(changed(splits={"train": {}}), changed(splits=None), changed(settings={})),
        changed(settings={"vocab": {}, "tokenizer": {"name": "eojeol"}}),
        changed(vocab_size=99),
    ],
    "vocab.tsv": [*ANY_DAMAGE, lambda path: flip_bit(path, 0.5)],
    "spelling.npz": [*ANY_DAMAGE, lambda path: flip_bit(path, 0.5)],
}


@pytest.mark.parametrize(
    ("name", "damage"), [(name, damage) for name, kinds in DAMAGE.items() for damage in kinds]
)
def test_damage_is_noticed(corpus: CorpusConfig, outputs: Path, name: str, damage: Damage) -> None:
    prepared = make(corpus, outputs)
    path = prepared.folder / name
    damage(path)
    for do in (lambda: open_prepared(prepared.folder), lambda: make(corpus, outputs)):
        error_of(do, str(prepared.folder), "delete", kind=(PreparedError, VocabError))


@pytest.mark.parametrize("damage", ANY_DAMAGE)
def test_damaged_ids_are_noticed(corpus: CorpusConfig, outputs: Path, damage: Damage) -> None:
    prepared = make(corpus, outputs)
    path = prepared.folder / "ids" / "train-00000.npy"
    damage(path)
    opened = open_prepared(prepared.folder)
    assert_error(PreparedError, lambda: opened.ids("train"), str(path), "delete")
    assert opened.ids("valid").size == 7


def other_ids(prepared: Prepared, ids: npt.NDArray[Any]) -> Prepared:
    """Replace the ids deliberately, with matching checksums."""
    np.save(prepared.folder / "ids" / "train-00000.npy", ids)
    new_checksums(prepared.folder / "manifest.json")
    return open_prepared(prepared.folder)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.full(11, 6, np.uint16), "holds the id 6, the vocabulary ends at 5"),
        (np.array([4] * 10 + [65535], np.uint16), "holds the id 65535"),
        (np.full(11, -1, np.int16), "holds int16, not uint16"),
        (np.full(11, np.nan), "holds float64, not uint16"),
        (np.full(11, 4, np.uint32), "holds uint32, not uint16"),
        (np.full((11, 1), 4, np.uint16), "holds (11, 1) ids"),
        (np.zeros(10, np.uint16), "holds 10 ids of train, the manifest says 11"),
    ],
    ids=["one too large", "far too large", "negative", "NaN", "wide", "matrix", "too few"],
)
def test_ids_that_are_none_are_refused(
    corpus: CorpusConfig, outputs: Path, ids: npt.NDArray[Any], message: str
) -> None:
    prepared = other_ids(make(corpus, outputs), ids)
    assert_error(
        PreparedError, lambda: prepared.ids("train"), str(prepared.folder / "ids"), message
    )


def test_a_split_without_files(corpus: CorpusConfig, outputs: Path) -> None:
    prepared = make(corpus, outputs)
    del prepared.manifest["crc32"]["ids/train-00000.npy"]
    message = "holds 0 ids of train, the manifest says 11"
    assert_error(
        PreparedError, lambda: prepared.ids("train"), str(prepared.folder / "ids"), message
    )


FILES = [
    "manifest.json",
    "vocab.tsv",
    "spelling.npz",
    "ids/train-00000.npy",
    "tokens/train-00000.parquet",
]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_bit_is_noticed_wherever_it_is(
    corpus: CorpusConfig, outputs: Path, name: str
) -> None:
    prepared = make(corpus, outputs)
    path = prepared.folder / name
    whole = path.read_bytes()
    for position in np.linspace(0, 1, 15):
        flip_bit(path, position)
        with pytest.raises((PreparedError, VocabError)) as caught:
            opened = open_prepared(prepared.folder)
            opened.ids("train")
            list(shards.read_columns(path, ["morphs"]))
        assert "\n" not in str(caught.value) and str(prepared.folder) in str(caught.value)
        path.write_bytes(whole)
    open_prepared(prepared.folder).ids("train")


def test_pages_of_incomplete_shards_have_checksums(
    corpus: CorpusConfig, outputs: Path, tmp_path: Path
) -> None:
    """No manifest lists them yet."""
    path = tmp_path / "train-00000.parquet"
    path.write_bytes((make(corpus, outputs).folder / "tokens" / path.name).read_bytes())
    column = pq.read_metadata(path).row_group(0).column(2)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 2] ^= 1
    path.write_bytes(data)
    assert_error(PreparedError, lambda: list(shards.read_columns(path, ["text"])), "damaged", "CRC")


def test_all_files_are_on_the_disk_before_they_have_their_names(
    corpus: CorpusConfig, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = note_disk(monkeypatch)
    folder = make(corpus, outputs).folder
    for split in ("train", "valid"):
        named = events.index(f"replace {split}-00000.parquet")
        assert events[named - 1] == "fsync"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert events[-1 - len(files) :] == ["fsync"] * len(files) + [f"replace {folder.name}"]


def test_an_older_folder_is_named(corpus: CorpusConfig, outputs: Path) -> None:
    prepared = make(corpus, outputs)
    new_checksums(prepared.folder / "manifest.json", format=2)
    assert_error(
        PreparedError, lambda: open_prepared(prepared.folder), "format 2", "reads 4", "delete"
    )


def test_spelling_that_declares_more_than_it_holds(corpus: CorpusConfig, outputs: Path) -> None:
    """3,000,000,000 numbers of 8 bytes; numpy would first allocate the memory."""
    prepared = make(corpus, outputs)
    path = prepared.folder / "spelling.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<u8", "fortran_order": False, "shape": (3_000_000_000,)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("grams0", "counts0"):
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(64))
    new_checksums(prepared.folder / "manifest.json")
    message = "grams0.npy declares 24,000,000,000 bytes and holds 64"
    assert_error(PreparedError, lambda: open_prepared(prepared.folder), str(path), message)


def test_another_fingerprint_is_refused(corpus: CorpusConfig, outputs: Path) -> None:
    prepared = make(corpus, outputs)
    assert_error(PreparedError, lambda: open_prepared(prepared.folder, "0" * 12), "000000000000")
    assert open_prepared(prepared.folder, prepared.fingerprint).stats == prepared.stats
    assert_error(PreparedError, lambda: open_prepared(outputs / "nothing"), "nothing")


def test_ids_are_mapped_and_cannot_be_changed(corpus: CorpusConfig, outputs: Path) -> None:
    ids = make(corpus, outputs).ids("train")
    assert isinstance(ids, np.ndarray) and not ids.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1
