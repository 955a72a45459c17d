"""Compressed text is decompressed, archives and office documents are rejected."""

import bz2
import gzip
import io
import lzma
import random
import sys
import tarfile
from pathlib import Path

import one_line
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from korlm.corpus.containers import STDIN, opened
from korlm.corpus.files import read_lines

TEXT = "가 나\n다\n".encode()


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


PACKERS = {"gzip": gzip.compress, "zstd": zstd, "xz": lzma.compress, "bzip2": bz2.compress}
ENDINGS = {"gzip": ".gz", "zstd": ".zst", "xz": ".xz", "bzip2": ".bz2"}


def tar(data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("글.txt")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def error_of(path: Path) -> str:
    return one_line.error_of(lambda: list(read_lines(path)), f"{path}: ")


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("is_named", [True, False])
def test_compressed_text_is_detected_by_content(
    tmp_path: Path, packer: str, is_named: bool
) -> None:
    path = tmp_path / f"text.TXT{ENDINGS[packer].upper() if is_named else ''}"
    path.write_bytes(PACKERS[packer](TEXT))
    assert list(read_lines(path)) == ["가 나", "다"]
    with opened(path) as (result, _):
        assert result == packer


@pytest.mark.parametrize("packer", ["gzip", "xz", "bzip2"])
def test_parts_that_follow_each_other(tmp_path: Path, packer: str) -> None:
    path = tmp_path / f"log.txt{ENDINGS[packer]}"
    path.write_bytes(PACKERS[packer](TEXT) + PACKERS[packer](TEXT))
    assert list(read_lines(path)) == ["가 나", "다"] * 2


def test_zstd_with_skippable_frames(tmp_path: Path) -> None:
    skippable = b"\x5f\x2a\x4d\x18\x04\0\0\0abcd"
    path = tmp_path / "text.txt.zst"
    path.write_bytes((skippable + zstd(TEXT)) * 2)
    assert list(read_lines(path)) == ["가 나", "다"] * 2


@pytest.mark.parametrize("packer", PACKERS)
def test_damaged_packed_text(tmp_path: Path, packer: str) -> None:
    path = tmp_path / f"cut.txt{ENDINGS[packer]}"
    path.write_bytes(PACKERS[packer](TEXT * 1000)[:-9])
    assert "decompressed" in error_of(path)


@pytest.mark.parametrize("packer", ["gzip", "xz", "bzip2"])  # zstd has no checksums here
@pytest.mark.parametrize("place", ["header", "middle", "end", "behind"])
def test_damage_after_the_first_of_several_parts(tmp_path: Path, packer: str, place: str) -> None:
    part = PACKERS[packer](random.Random(0).randbytes(50_000).hex().encode())
    damaged = {
        "header": bytes([part[0], part[1] ^ 1]) + part[2:] + part,
        "middle": part[:30_000] + bytes(byte ^ 255 for byte in part[30_000:30_100]) + part[30_100:],
        "end": part[:3],
        "behind": part + b"other bytes",
    }
    path = tmp_path / f"parts.txt{ENDINGS[packer]}"
    path.write_bytes(part + damaged[place])
    assert "decompressed" in error_of(path)


@pytest.mark.parametrize("num_zeros", [4, 8 + (1 << 14)])
def test_padding_of_xz(tmp_path: Path, num_zeros: int) -> None:
    path, part = tmp_path / "a.txt.xz", lzma.compress(TEXT)
    path.write_bytes((part + bytes(num_zeros)) * 2)
    assert list(read_lines(path)) == ["가 나", "다"] * 2
    path.write_bytes(part + bytes(num_zeros + 1))
    assert "padding" in error_of(path)


@pytest.mark.parametrize("packer", PACKERS)
def test_a_name_that_belongs_to_another_packer(tmp_path: Path, packer: str) -> None:
    path = tmp_path / f"a.txt{ENDINGS[packer]}"
    path.write_bytes(TEXT)
    assert "not compressed" in error_of(path)
    other = "xz" if packer == "gzip" else "gzip"
    path.write_bytes(PACKERS[other](TEXT))
    assert f"compressed by {other}" in error_of(path)


@pytest.mark.parametrize("packer", [None, *PACKERS])
def test_a_tar_archive(tmp_path: Path, packer: str | None) -> None:
    path = tmp_path / f"corpus.tar{ENDINGS[packer] if packer else ''}"
    data = tar(TEXT)
    path.write_bytes(PACKERS[packer](data) if packer else data)
    message = error_of(path)
    assert "archive" in message and "tar" in message and "tar -xf" in message


def test_packed_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(lzma.compress(TEXT)))
    assert "compressed twice, by gzip and xz" in error_of(path)


@pytest.mark.parametrize(
    "text",
    [
        "BZh는 압축의 표지다",
        "BZh9 3",
        "PAR1 골프",
        "ARROW1",
        "EGGA 2",
        "%PDF를 본다",
        "SQLite format 3",
    ],
)
def test_text_that_begins_like_a_binary_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "text.txt"
    path.write_text(f"{text}\n", encoding="utf-8")
    assert list(read_lines(path)) == [text]


@pytest.mark.parametrize("size", [12, None])
def test_a_renamed_binary_file(tmp_path: Path, size: int | None) -> None:
    table = pa.table({"text": ["가"]})
    path = tmp_path / "text.txt"
    pq.write_table(table, path)
    path.write_bytes(path.read_bytes()[:size])
    assert error_of(path).endswith("this is a Parquet file; give corpus.format=parquet")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    path.write_bytes(path.read_bytes()[:size])
    assert error_of(path).endswith("this is an Arrow file; give corpus.format=arrow")
    path.write_bytes(bz2.compress(b""))
    assert list(read_lines(path)) == []


class Pipe(io.BytesIO):
    """A stream that returns a few bytes at a time and cannot seek."""

    def seekable(self) -> bool:
        return False

    def read(self, size: int | None = -1) -> bytes:
        return super().read(3 if size is None or size < 0 else min(size, 3))


@pytest.mark.parametrize(
    "data",
    [TEXT, gzip.compress(TEXT * 99), zstd(TEXT), b""],
    # Default ids would contain the bytes of gzip, which depend on the time.
    ids=["plain", "gzip", "zstd", "empty"],
)
def test_standard_input_that_cannot_seek(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Pipe(data)))
    lines = {TEXT: 2, b"": 0, zstd(TEXT): 2}.get(data, 198)
    assert list(read_lines(STDIN)) == (["가 나", "다"] * 99)[:lines]
