"""Parquet and Arrow files."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from korlm.config import CorpusConfig, CorpusFormat
from korlm.corpus.files import other_columns, read_records
from korlm.corpus.formats import columns
from korlm.corpus.records import Notes
from korlm.corpus.sources import find_sources
from korlm.utils.errors import CorpusError

TABLE = pa.table({"text": ["하나", "둘\n셋", "넷"], "id": [1, 2, None], "label": ["a", None, "b"]})


def write_file(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def write_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "a.parquet": pq.write_table,
    "a.arrow": write_stream,  # like the package datasets
    "a.feather": write_file,
}


@pytest.fixture(params=WRITERS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    WRITERS[path.name](TABLE, path)
    return path


def test_rows(path: Path) -> None:
    config = CorpusConfig(name="c", train=[str(path)], document_column="id", label_column="label")
    expected = [("하나", "1", "a"), ("둘\n셋", "2", ""), ("넷", "", "b")]
    assert [record[:3] for record in read_records(path, config)] == expected
    archive = path.with_name("a.zip")
    with zipfile.ZipFile(archive, "w") as file:
        file.write(path, path.name)
    assert [record[:3] for record in read_records(archive / path.name, config)] == expected


def test_refused_input(path: Path) -> None:
    config = CorpusConfig(name="c", train=[str(path)], text_column="body")
    with pytest.raises(CorpusError, match="has no column 'body', only text, id, label"):
        list(read_records(path, config))
    WRITERS[path.name](pa.table({"text": ["하나", None]}), path)
    config = CorpusConfig(name="c", train=[str(path)])
    with pytest.raises(CorpusError, match="row 2 has None under 'text'"):
        list(read_records(path, config))
    notes = Notes()
    config = CorpusConfig(name="c", train=[str(path)], skip_without_text=True)
    assert [record.text for record in read_records(path, config, notes)] == ["하나"]
    assert notes.lines()
    for data in (path.read_bytes()[:-100], gzip.compress(path.read_bytes()), b"no table"):
        path.write_bytes(data)
        with pytest.raises(CorpusError, match="file that can be read"):
            list(read_records(path, config))


def test_a_saved_dataset(tmp_path: Path) -> None:
    """The data files that datasets 4 writes are read, its metadata files are not."""
    folder = tmp_path / "dataset"
    for split in ("train", "validation"):
        (folder / split).mkdir(parents=True)
        for name in ("data-00000-of-00002.arrow", "data-00001-of-00002.arrow", "cache-1f.arrow"):
            write_stream(TABLE, folder / split / name)
        (folder / split / "state.json").write_text("{}")
        (folder / split / "dataset_info.json").write_text("{}")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    names = [source.name for source in find_sources(CorpusConfig(name="c", files=[str(folder)]))]
    assert names == [
        f"{split}/data-0000{part}-of-00002.arrow"
        for split in ("train", "validation")
        for part in (0, 1)
    ]


def test_by_format(tmp_path: Path) -> None:
    path = tmp_path / "table"
    write_file(TABLE, path)
    config = CorpusConfig(name="c", train=[str(path)], format=CorpusFormat.arrow)
    assert [record.text for record in read_records(path, config)] == TABLE["text"].to_pylist()


@pytest.mark.parametrize(("name", "key"), [("text", "text_column"), ("id", "label_column")])
def test_columns_of_the_same_name(tmp_path: Path, name: str, key: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([TABLE["text"], TABLE["id"], TABLE[name]], ["text", "id", name]), path)
    config = CorpusConfig(name="a", files=[str(path)], text_column="text", label_column="id")
    expected = rf"a.parquet: has several columns '{name}'; rename .*, or give corpus.{key}=NAME"
    with pytest.raises(CorpusError, match=expected):
        list(read_records(path, config))


def test_strings_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    data = "가".encode("cp949")
    offsets = np.array([0, len(data)], np.int32)
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    pq.write_table(pa.table({"text": text}), path)
    config = CorpusConfig(name="a", files=[str(path)], text_column="text")
    with pytest.raises(CorpusError, match=r"a.parquet: the column 'text' has strings that are not"):
        list(read_records(path, config))


def read_kept(path: Path, column: pa.Array) -> list[str]:
    """Return the values of a column "x" that is kept."""
    pq.write_table(pa.table({"text": ["가"] * len(column), "x": column}), path)
    config = CorpusConfig(name="a", files=[str(path)], keep_columns=["x"])
    return [record.kept[0] for record in read_records(path, config)]


def test_nanoseconds_are_read_without_pandas(tmp_path: Path) -> None:
    column = pa.array([1_700_000_000_000_000_001, None], pa.timestamp("ns"))
    assert read_kept(tmp_path / "a.parquet", column) == ["2023-11-14 22:13:20", ""]


def test_bytes_are_read_as_utf8(tmp_path: Path) -> None:
    for kind in (pa.binary(), pa.large_binary(), pa.binary(3), pa.binary_view()):
        assert read_kept(tmp_path / "a.parquet", pa.array(["가".encode(), None], kind)) == [
            "가",
            "",
        ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([10**18], pa.timestamp("s")),  # later than the year 9999
        pa.array([1], pa.timestamp("us", "Mars/X")),
        pa.array([b"\xb0\xa1"]),
    ],
)
def test_values_that_cannot_be_text(tmp_path: Path, column: pa.Array) -> None:
    with pytest.raises(
        CorpusError, match=r"a.parquet: the column 'x' \(.*\) cannot be read as text"
    ):
        read_kept(tmp_path / "a.parquet", column)


def test_other_columns(path: Path) -> None:
    """Each name once, without empty names, lists and bytes, as in a table with a header."""
    columns = [pa.array(["가"]), *[pa.array([1])] * 3, pa.array([[1]]), pa.array([b"x"])]
    WRITERS[path.name](pa.table(columns, ["text", "b", "b", "", "list", "bytes"]), path)
    assert other_columns(path, CorpusConfig(name="a", files=[str(path)])) == ["b"]


def test_bytes_with_a_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    texts = pa.array(["하나".encode(), "둘".encode(), "하나".encode()]).dictionary_encode()
    write_file(pa.table({"text": texts, "id": texts}), path)
    config = CorpusConfig(name="c", train=[str(path)], document_column="id")
    rows = [record[:2] for record in read_records(path, config)]
    assert rows == [("하나", "하나"), ("둘", "둘"), ("하나", "하나")]


def test_a_type_that_arrow_does_not_convert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path)

    def fail(kind: pa.DataType) -> bool:
        raise pa.ArrowNotImplementedError("Unsupported cast")

    monkeypatch.setattr(columns, "_is_binary", fail)
    config = CorpusConfig(name="c", train=[str(path)])
    with pytest.raises(CorpusError, match=r"the column 'text' \(string\) cannot be read as text"):
        list(read_records(path, config))
