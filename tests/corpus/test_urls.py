"""Files of object stores are found and read like those of a folder."""

import gzip
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import one_by_one
from object_store import open_bucket
from test_pieces import check_pieces

from korlm.config import CorpusConfig, TextConfig
from korlm.corpus.pieces import plan_pieces
from korlm.corpus.reader import read_corpus
from korlm.corpus.scan import scan_piece
from korlm.corpus.sources import find_inputs, find_sources
from korlm.utils.errors import CorpusError, OutputError
from korlm.utils.io.urls import copy_file, url_errors


def config(*files: str, **settings: Any) -> CorpusConfig:
    return CorpusConfig(name="test", files=list(files), **settings)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with open_bucket() as url:
        yield url


def contents() -> dict[str, bytes]:
    table = io.BytesIO()
    pq.write_table(pa.table({"text": [f"줄 {n}" for n in range(90)]}), table, row_group_size=20)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("안/e.txt", "가나다\n")
    rows = "".join(json.dumps({"text": f"글 {n}"}) + "\n" for n in range(200))
    return {
        "a.txt": "가\n나 다\n".encode() * 50,
        "b.txt.gz": gzip.compress("라\n".encode()),
        "sub/c.jsonl": rows.encode(),
        "sub/d.zip": archive.getvalue(),
        "f.parquet": table.getvalue(),
        "notes.md": b"-",
    }


@pytest.fixture(params=["memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a folder with the files of the folder "local" in ``tmp_path``."""
    root = "memory://texts" if request.param == "memory" else request.getfixturevalue("bucket")
    fs, name = fsspec.url_to_fs(f"{root}/corpus")
    for path, data in contents().items():
        fs.pipe(f"{name}/{path}", data)
        local = tmp_path / "local" / path
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(data)
    fs.invalidate_cache()
    return f"{root}/corpus"


@pytest.mark.parametrize("pattern", ["", "/", "/*.txt", "/**/*.*", "/sub", "/sub/d.zip", "/a.txt"])
def test_files_are_those_of_a_folder(folder: str, tmp_path: Path, pattern: str) -> None:
    ours = find_sources(config(folder + pattern))
    expected = find_sources(config(f"{tmp_path}/local{pattern}"))
    assert [(s.name, s.split, s.size) for s in ours] == [
        (s.name, s.split, s.size) for s in expected
    ]
    assert all(source.version for source in ours if folder.startswith("s3:"))


def test_lines_are_those_of_a_folder(folder: str, tmp_path: Path) -> None:
    lines = [
        one_by_one(read_corpus(settings, find_sources(settings)))
        for settings in (config(folder), config(f"{tmp_path}/local"))
    ]
    assert lines[0] == lines[1]
    for size in (300, 100_000):
        assert check_pieces(config(folder), size) == check_pieces(config(f"{tmp_path}/local"), size)


def test_digests_are_those_of_a_folder(folder: str, tmp_path: Path) -> None:
    digests = []
    for root in (folder, f"{tmp_path}/local"):
        pieces = plan_pieces(config(root), find_sources(config(root)), 300)
        digests.append([scan_piece(config(root), piece).digest for piece in pieces])
    assert digests[0] == digests[1]


def test_inputs_may_be_urls(folder: str) -> None:
    (source,) = find_inputs([f"{folder}/a.txt"], "input")
    assert len(one_by_one(read_corpus(TextConfig(), [source]))) == 100


@pytest.mark.parametrize(
    "name, message",
    [
        ("none.txt", "there is no such file, folder or bucket"),
        ("none", "there is no such file, folder or bucket"),
        ("*.none", "is neither a file, a folder nor a glob of files"),
    ],
)
def test_urls_of_nothing(folder: str, name: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as caught:
        find_sources(config(f"{folder}/{name}"))
    assert f"{folder}/{name}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_bucket_that_is_missing(bucket: str) -> None:
    for url in ("s3://nothing/a.txt", "s3://nothing", "s3://nothing/*.txt"):
        with pytest.raises(CorpusError, match=r"s3://nothing.* (there is no|is neither)"):
            find_sources(config(url))


def test_a_damaged_file_of_a_bucket(bucket: str) -> None:
    fs, name = fsspec.url_to_fs(f"{bucket}/bad")
    fs.pipe(f"{name}/a.txt.gz", gzip.compress("라\n".encode() * 999)[:-20])
    fs.pipe(f"{name}/b.parquet", contents()["f.parquet"][:-20])
    for ending in ("a.txt.gz", "b.parquet"):
        settings = config(f"{bucket}/bad/{ending}")
        (source,) = find_sources(settings)
        with pytest.raises(CorpusError, match=f"^{source.path}: ") as caught:
            list(read_corpus(settings, [source]))
        assert "\n" not in str(caught.value)


def test_credentials_that_are_missing(
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    s3fs = pytest.importorskip("s3fs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(CorpusError, match=r"denied .*; give credentials, of s3:// as AWS_"):
            find_sources(config(f"{bucket}/corpus"))
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    known = sys.modules["fsspec.registry"]._registry  # the name in the package is a copy
    monkeypatch.delitem(known, "s3", raising=False)
    with pytest.raises(CorpusError, match=r"s3://b/a\.txt: needs a package .*install .*s3fs"):
        find_sources(config("s3://b/a.txt"))


def test_an_unknown_kind_of_url() -> None:
    with pytest.raises(CorpusError, match=r"^ftq://b/a\.txt: cannot be read .*ftq"):
        find_sources(config("ftq://b/a.txt"))


def test_credentials_that_are_missing_when_a_file_is_copied(tmp_path: Path) -> None:
    class NoCredentialsError(Exception):
        pass

    class Store(type(tmp_path)):  # type: ignore[misc]
        def open(self, *arguments: object, **options: object) -> None:
            raise NoCredentialsError("Unable to locate credentials")

    with (
        pytest.raises(OutputError, match=r"^s3://a/b: access is denied \(.*; give credentials"),
        url_errors("s3://a/b", OutputError),
    ):
        copy_file(Store(tmp_path / "a"), tmp_path / "b")
