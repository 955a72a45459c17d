"""Token files in another folder or in an object store (``prepare.folder``)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Command, flip_bit, sentences
from object_store import open_bucket
from one_line import error_of

from korlm.config import ClusterConfig, CorpusConfig, TokenizerConfig, VocabConfig
from korlm.dataset import assemble, tokenize
from korlm.dataset.executors import base
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared
from korlm.dataset.storage.shards import read_columns, read_counts, shard_paths
from korlm.utils.errors import OutputError, PreparedError
from korlm.utils.io.urls import to_path

EOJEOL = TokenizerConfig(name="eojeol")


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusConfig:
    files = {}
    for seed, split in enumerate(("train", "valid")):
        path = tmp_path / f"{split}.txt"
        path.write_text("\n".join(sentences(60, seed)) + "\n", encoding="utf-8")
        files[split] = [str(path)]
    return CorpusConfig(name="stored", **files)


def make(
    corpus: CorpusConfig, outputs: Path, folder: str | None = None, min_freq: int = 1
) -> Prepared:
    cluster = ClusterConfig(folder=folder, piece_mb=0.001)
    return prepare(corpus, EOJEOL, VocabConfig(min_freq=min_freq), outputs, False, cluster)


@pytest.fixture
def memory() -> Iterator[str]:
    """Yield the URL of a store in this process."""
    pytest.importorskip("upath")
    yield "memory://korlm"
    path = to_path("memory://korlm", OutputError)
    if path.exists():
        path.fs.rm(path.path, recursive=True)  # type: ignore[attr-defined]


def content(prepared: Prepared) -> dict[str, bytes]:
    """Return the contents of shards (downloaded), ids and vocabulary."""
    for split in prepared.stats:
        for path in shard_paths(prepared.folder / "tokens", split):
            read_counts(path)
    paths = [p for kind in ("tokens", "ids") for p in sorted((prepared.folder / kind).iterdir())]
    paths += [prepared.folder / "vocab.tsv", prepared.folder / "spelling.npz"]
    return {path.relative_to(prepared.folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_shards_stay_and_are_fetched(
    corpus: CorpusConfig, tmp_path: Path, memory: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "store") if kind == "folder" else memory
    alone, stored = make(corpus, tmp_path / "alone"), make(corpus, tmp_path / "outputs", store)
    assert stored.folder.name == alone.folder.name
    assert np.array_equal(stored.ids("train"), alone.ids("train"))
    assert list((stored.folder / "tokens").iterdir()) == []
    assert content(stored) == content(alone)
    assert stored.texts("valid") == alone.texts("valid")
    (there,) = to_path(store, OutputError).iterdir()
    assert sorted(path.name for path in there.iterdir()) == ["counts", "pieces", "tokens"]

    # A damaged copy is reported, and downloaded again once it has been deleted.
    path = shard_paths(stored.folder / "tokens", "train")[0]
    flip_bit(path, 0.5)
    with pytest.raises(PreparedError, match="damaged"):
        list(read_columns(path, ["text"]))
    path.unlink()
    assert list(read_columns(path, ["text"]))
    # Another vocabulary, or another machine, uses the same shards.
    monkeypatch.setattr(base, "TokenizerPool", None)
    other = make(corpus, tmp_path / "outputs", store, min_freq=2)
    assert content(other).keys() == content(alone).keys()
    unused = contextlib.nullcontext(SimpleNamespace(map=None))
    monkeypatch.setattr(base, "TokenizerPool", lambda *arguments: unused)
    assert content(make(corpus, tmp_path / "elsewhere", store)) == content(alone)


@pytest.mark.parametrize("fails", [False, True])
def test_two_machines_with_the_same_store(
    corpus: CorpusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    store, copy = tmp_path / "store", assemble.copy_file

    def copy_later(*arguments: Any) -> None:
        monkeypatch.setattr(assemble, "copy_file", copy)
        make(corpus, tmp_path / "other", str(store))
        if fails:
            raise OSError
        copy(*arguments)

    monkeypatch.setattr(assemble, "copy_file", copy_later)
    with pytest.raises(OSError) if fails else contextlib.nullcontext():
        make(corpus, tmp_path / "outputs", str(store))
    assert not list(store.rglob("encoded-*"))


def test_a_store_that_was_moved(corpus: CorpusConfig, tmp_path: Path) -> None:
    store = tmp_path / "store"
    stored = make(corpus, tmp_path / "outputs", str(store))
    expected = content(make(corpus, tmp_path / "alone"))
    store.rename(tmp_path / "moved")
    words = (
        "cannot be fetched (No such file or directory)",
        "move them back, or delete the folder",
    )
    message = error_of(lambda: stored.texts("train"), *words, kind=PreparedError)
    assert message.startswith(f"{store}/") and "damaged" not in message
    # Other corpora that could have shared its tokens make their own.
    assert content(make(corpus, tmp_path / "outputs", min_freq=2)).keys() == expected.keys()
    (tmp_path / "moved").rename(store)
    assert content(stored) == expected


def test_a_corpus_grows_there(
    corpus: CorpusConfig, tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(corpus, tmp_path / "outputs", memory)
    more = tmp_path / "more.txt"
    more.write_text("\n".join(sentences(60, 9)) + "\n", encoding="utf-8")
    corpus.valid = [*corpus.valid, str(more)]
    seen: list[str] = []
    real = tokenize.tokenize_piece

    def note(settings: object, text: tokenize.PieceText, **more: object) -> object:
        seen.extend(source.name for source in text.piece.sources)
        return real(settings, text, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(base, "tokenize_piece", note)
    grown = make(corpus, tmp_path / "outputs", memory)
    assert set(seen) == {"more.txt"}
    assert content(grown) == content(make(corpus, tmp_path / "alone"))


def test_a_store_that_cannot_be_written(corpus: CorpusConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match=r"file.*prepare.folder=FOLDER"):
        make(corpus, tmp_path / "outputs", str(tmp_path / "file"))


def test_s3(korlm: Command, corpus: CorpusConfig, tmp_path: Path) -> None:
    with open_bucket() as bucket:
        given = [f"corpus.{split}=[{tmp_path / split}.txt]" for split in ("train", "valid")]
        command = ["prepare", "corpus=text", *given, "tokenizer=eojeol", "prepare.piece_mb=0.001"]
        missing = korlm(*command, "prepare.folder=s3://none/a").error
        assert missing == "korlm: s3://none/a: there is no such file, folder or bucket"
        ended = korlm(*command, f"prepare.folder={bucket}/a")
        assert ended.code == 0, ended.err
        assert korlm(*command, "outputs=alone").code == 0
        (stored,), (alone,) = (
            list((tmp_path / name / "prepared").iterdir()) for name in ("outputs", "alone")
        )
        for path in (*alone.glob("tokens/*"), *alone.glob("ids/*"), alone / "vocab.tsv"):
            assert (stored / path.relative_to(alone)).read_bytes() == path.read_bytes()
