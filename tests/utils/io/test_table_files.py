"""Tables are written completely or not at all, and cells can be read back."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from korlm.utils.errors import OutputError
from korlm.utils.io.table_files import TableWriter, check_not_read, tsv_lines

TABLE = pa.table(
    {
        "text": ['탭\t줄\n역\\ "말"', None],
        "line": pa.array([1, None], pa.int64()),
        "bits": [1 / 3, float("inf")],
        "unknown": [True, False],
    }
)
TSV = 'text\tline\tbits\tunknown\n"탭\t줄\n역\\ ""말"""\t1\t0.33333\ttrue\nNA\tNA\tinf\tfalse\n'


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz", "t.parquet"])
def test_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with TableWriter(str(path), TABLE.schema, "output") as writer:
        writer.write(TABLE[:1])
        writer.write(TABLE[1:])
        assert not path.exists() and not writer.is_stdout
    assert [p.name for p in tmp_path.iterdir()] == [name]
    if name == "t.parquet":
        assert pq.read_table(path).to_pylist() == TABLE.to_pylist()
    else:
        data = path.read_bytes()
        assert (gzip.decompress(data) if name.endswith("gz") else data).decode() == TSV


def test_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    with TableWriter("-", TABLE.schema, "output") as writer:
        writer.write(TABLE)
        assert writer.is_stdout
    assert isinstance(out.buffer, io.BytesIO) and out.buffer.getvalue().decode() == TSV


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz", "t.parquet"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"before")
    writer = TableWriter(str(path), TABLE.schema, "output")
    with pytest.raises(KeyboardInterrupt), writer:
        writer.write(TABLE)
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == b"before"


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").mkdir()
    with pytest.raises(OutputError, match=r"output=.*t\.tsv: is a folder"):
        TableWriter(str(tmp_path / "t.tsv"), TABLE.schema, "output")
    with pytest.raises(OutputError, match=r"the folder .*missing does not exist; create it, or"):
        TableWriter(str(tmp_path / "missing" / "t.tsv"), TABLE.schema, "eojeols")


def test_no_rows() -> None:
    assert tsv_lines(TABLE[:0]) == b""


def test_cells_are_read_as_they_were() -> None:
    cells = ["탭\t", "줄\n", "역\\n", '"', '"가', '가"나', "'", "#", " 가 ", ""]
    lines = tsv_lines(pa.table({"a": cells, "b": cells[::-1]})).decode()
    rows = list(csv.reader(io.StringIO(lines, newline=""), delimiter="\t"))
    assert rows == [list(row) for row in zip(cells, cells[::-1], strict=True)]


def test_a_file_that_is_read_is_no_output(tmp_path: Path) -> None:
    items, link = tmp_path / "items.tsv", tmp_path / "link.tsv"
    items.touch()
    link.symlink_to(items)
    for target in (items, link, tmp_path / "." / "items.tsv"):
        with pytest.raises(OutputError, match=r"output=.*\.tsv: is also read; give another file"):
            check_not_read({"plot": None, "output": str(target)}, [None, "-", items])
    check_not_read({"output": "-", "plot": str(tmp_path / "new.tsv")}, [items, "-"])
