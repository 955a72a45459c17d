"""Reading of lines and rows from files; errors name file, line and byte."""

import gzip
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import one_line
import pytest

from korlm.config import CorpusFormat, Encoding, TextConfig
from korlm.corpus import files
from korlm.corpus.files import (
    FileFormat,
    inspect_file,
    kind_of,
    read_lines,
    read_records,
    text_lines,
)
from korlm.utils.errors import CorpusError

# Characters that str.splitlines treats as line ends, and Kkma does not.
NO_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "text.txt"


def error_of(
    path: Path, encoding: Encoding = Encoding.utf8, read: Callable[[], object] | None = None
) -> str:
    """Return the one-line error of reading a file; check that it names the file."""
    return one_line.error_of(read or (lambda: list(read_lines(path, encoding))), str(path))


def rows_of(path: Path, text: str, document: str = "") -> list[tuple[str, str]]:
    config = TextConfig(text_column=text, document_column=document)
    return [(record.text, record.document) for record in read_records(path, config)]


def row_error_of(path: Path, text: str, document: str = "") -> str:
    return error_of(path, read=lambda: rows_of(path, text, document))


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"\n\na", ["", "", "a"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\nb", ["a", "b"]),
        (b"a\rb\n", ["a\rb"]),
        (b"a\r\r\nb\n", ["a\r", "b"]),
        (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", [""]),
        ("a\n\ufeffb\n".encode(), ["a", "\ufeffb"]),
        ("가 나\n다\n".encode(), ["가 나", "다"]),
        # CR alone ends lines where there is no LF.
        (b"a\rb\r", ["a", "b"]),
        (b"a\rb", ["a", "b"]),
        (b"a\r\rb\r", ["a", "", "b"]),
        (b"\r", [""]),
        (b"\xef\xbb\xbf\ra", ["", "a"]),
        ("가\r나\r".encode("utf-16"), ["가", "나"]),
        ("가\r나\r".encode("utf-16-be"), ["가", "나"]),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 3, 1 << 20])
def test_lines(
    path: Path, data: bytes, lines: list[str], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", block)
    path.write_bytes(data)
    encoding = Encoding.utf16be if data.startswith(b"\xac") else Encoding.utf8
    assert list(read_lines(path, encoding)) == lines


def test_the_beginning_of_a_file_decides_its_line_ends(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "HEAD", 8)
    for block in (1, 3, 64):
        monkeypatch.setattr(files, "BLOCK", block)
        path.write_bytes(b"abc\rdef\rghi\r\njkl\nmno\r")
        assert list(read_lines(path)) == ["abc", "def", "ghi", "jkl", "mno"]
        path.write_bytes(b"abc\ndef\rghi")
        assert list(read_lines(path)) == ["abc", "def\rghi"]
        path.write_bytes(b"abcdefg\r\nhi")  # the head ends between CR and LF
        assert list(read_lines(path)) == ["abcdefg", "hi"]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("block", [1, 3, 1 << 20])
def test_utf16_by_its_mark_or_by_name(
    path: Path, codec: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", block)
    text = "가 나\r\n\u0a0a😀\n"  # its bytes include those of line ends
    path.write_bytes(text.encode(codec))
    encoding = {"utf-16-be": Encoding.utf16be}.get(codec, Encoding.utf16)
    assert list(read_lines(path, encoding)) == ["가 나", "\u0a0a😀"]
    path.write_bytes(("\ufeff" * (codec != "utf-16") + text).encode(codec))
    for stated in Encoding:  # the byte order mark has priority
        assert list(read_lines(path, stated)) == ["가 나", "\u0a0a😀"]


def test_a_mark_of_utf8_comes_before_the_settings(path: Path) -> None:
    path.write_bytes("\ufeff가\n".encode())
    assert list(read_lines(path, Encoding.cp949)) == ["가"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[{"text": "가"}]', "JSON"),
        ('\n{\n "document": [', "JSON"),
        ('{"text": "가"}\n{"text": "나"}\n', "corpus.format=json"),
        ('<?xml version="1.0"?>\n<a>', "XML"),
        ("<!DOCTYPE html>\n", "HTML"),
        ("\n <HTML>", "HTML"),
    ],
)
def test_wrong_file_endings(path: Path, text: str, what: str) -> None:
    path.write_text(text, encoding="utf-8")
    message = error_of(path, read=lambda: inspect_file(path))
    assert what in message and "corpus.format=txt" in message
    assert inspect_file(path, file_format=CorpusFormat.txt).is_divisible


@pytest.mark.parametrize("text", ["[1] 각주\n", "{가}\n", "<나> 다\n", '"{" 괄호\n', "[\n"])
def test_similar_content_is_read(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    assert inspect_file(path) == FileFormat("", Encoding.utf8, True)


def test_inspect_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress("[]".encode("utf-16")))
    assert inspect_file(path) == FileFormat("gzip", Encoding.utf8, False)
    path.write_bytes(b"")
    assert inspect_file(path).compression == ""
    with pytest.raises(CorpusError, match="no such file"):
        inspect_file(tmp_path / "missing.txt")


@pytest.mark.parametrize("encoding", Encoding)
def test_blocks_do_not_show(
    path: Path, encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    is_korean_alone = encoding in (Encoding.cp949, Encoding.johab)
    letters = "가힣나a 1\t" if is_korean_alone else "가힣나a 1\t\u1112\u0300😀\x85"
    codec = "utf-16" if encoding is Encoding.utf16 else files.CODECS[encoding]
    lines = ["".join(rng.choices(letters, k=rng.choice([0, 1, 5, 40]))) for _ in range(200)]
    data = ("\n".join(lines) + "\n").encode(codec)
    path.write_bytes(data)
    for block in [*range(1, 12), len(data) - 1, len(data), len(data) + 1]:
        monkeypatch.setattr(files, "BLOCK", block)
        assert list(read_lines(path, encoding)) == lines, f"BLOCK={block}"


def test_a_line_is_given_before_the_file_is_read_to_its_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", 8)
    path.write_bytes(b"a line\n" * 10 + b"\xff\n")
    lines = read_lines(path)
    assert [next(lines) for _ in range(9)] == ["a line"] * 9
    with pytest.raises(CorpusError):
        list(lines)


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("lines_before", [0, 1, 30])
def test_the_position_of_a_wrong_byte(
    path: Path, block: int, lines_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", block)
    before = "가나다\r\n".encode() * lines_before  # 11 bytes each
    path.write_bytes(before + "ab가 ".encode() + "나".encode("cp949") + b"\nrest\n")
    message = error_of(path)
    # ab, three bytes of 가 and a space precede it; 나 is B3 AA in cp949.
    assert f"line {lines_before + 1}, byte 7 " in message
    assert f"(0xb3, byte {11 * lines_before + 6} of the file)" in message
    assert "not utf-8" in message and "corpus.encoding=cp949" in message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xef\xbb\xbfa\xff\n", "line 1, byte 5 (0xff, byte 4 of the file)"),  # the mark counts
        ("가\n나".encode()[:-1], "line 2, byte 1 (0xeb, byte 4 of the file)"),
        ("가나\r다\r".encode() + b"a\xff\r", "line 3, byte 2 (0xff, byte 12 of the file)"),
        ("가나".encode("utf-16")[:-1], "byte 4 of the file is not utf-16-le"),
        (b"\xff\xfe\x00\xac\x00\xd8a\x00", "byte 4 of the file is not utf-16-le"),
    ],
)
def test_wrong_bytes(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    assert message in error_of(path)


def test_utf8_read_as_cp949(path: Path) -> None:
    path.write_bytes("첫 줄\nabc\n한글\n".encode())
    message = error_of(path, Encoding.cp949)
    assert "not cp949" in message and "corpus.encoding=utf8" in message


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("가나다".encode("utf-32"), "UTF-32"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\x03\x04rest", "zip"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "HWP"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z"),
        (b"ALZ\x01\n\0\0\0", "ALZip"),
        (b"{\\rtf1\\ansi", "RTF"),
        ("가 나 다\n".encode("utf-16-le"), "corpus.encoding=utf16le"),
        (struct.pack("<100I", *range(100)), "binary"),
        (b"a\0b\0c\0\n\0", "binary"),
    ],
)
def test_values_that_are_not_text(path: Path, data: bytes, what: str) -> None:
    path.write_bytes(data)
    assert what in error_of(path)


def test_a_nul_in_a_text_is_no_binary_file(path: Path) -> None:
    line = "한글 " * 100 + "\0"
    path.write_text(f"{line}\n", encoding="utf-8")
    assert list(read_lines(path)) == [line]


def test_only_the_beginning_identifies_a_binary_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", 4)
    path.write_bytes(b"text%PDF \0\0\0\n")  # the second block of a long first line
    assert list(read_lines(path)) == ["text%PDF \0\0\0"]


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    assert "no such file" in error_of(tmp_path / "missing.txt")
    folder = tmp_path / "folder.txt"
    folder.mkdir()
    assert "is a folder" in error_of(folder)


def test_a_file_that_may_not_be_read(path: Path) -> None:
    path.write_text("가\n", encoding="utf-8")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read any file, as root and on Windows")
    assert "permissions" in error_of(path)


def test_kind_of() -> None:
    names = ["a.txt", "a.TSV", "a.csv.gz", "a.jsonl.zst", "a.1.tsv", "a", "a.gz", "gz.txt.txt"]
    names += ["a.json.xz", "a.tar.bz2"]
    kinds = [".txt", ".tsv", ".csv", ".jsonl", ".tsv", "", "", ".txt", ".json", ".tar"]
    assert [kind_of(Path(name)) for name in names] == kinds


def test_only_lf_and_cr_lf_end_a_line(path: Path) -> None:
    line = "가".join(["", *NO_LINE_ENDS, "\rb"])
    assert len(line.splitlines()) > len(NO_LINE_ENDS)  # a naive splitlines would be wrong
    text = f"가\r\n\n{line}\n라"
    path.write_bytes(text.encode())
    assert text_lines(text) == list(read_lines(path)) == ["가", "", line, "라"]


@pytest.mark.parametrize("ending", ["tsv", "tsv.gz"])
def test_tsv_by_name_and_by_number(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"reviews.{ending}"
    data = "id\tdocument\tlabel\n1\t좋다\t1\n2\t나쁘다\t0\n".encode()
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    assert rows_of(path, "document") == [("좋다", ""), ("나쁘다", "")]
    assert rows_of(path, "document", "label") == [("좋다", "1"), ("나쁘다", "0")]
    with_header = [("document", "id"), ("좋다", "1"), ("나쁘다", "2")]
    assert rows_of(path, "2", "1") == with_header
    assert rows_of(path, "3") == [("label", ""), ("1", ""), ("0", "")]


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "talk.csv"
    path.write_bytes(
        '\ufeffid,text\r\n1,"쉼표, 그리고 ""따옴표"""\r\n2,"두\r\n줄"\r\n\r\n3,끝'.encode()
    )
    # A line end within a field is a plain LF: CR LF is always a line end.
    rows = [('쉼표, 그리고 "따옴표"', "1"), ("두\n줄", "2"), ("끝", "3")]
    assert rows_of(path, "text", "id") == rows
    assert rows_of(path, "2", "1") == [("text", "id"), *rows]


def test_csv_fields_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    text = "가" * 200_000  # Python's own limit is 131,072
    path.write_text(f"text\n{text}\n", encoding="utf-8")
    assert rows_of(path, "text") == [(text, "")]


@pytest.mark.parametrize("ending", ["tsv", "csv"])
def test_table_errors(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"table.{ending}"
    comma = {"tsv": "\t", "csv": ","}[ending]
    path.write_text(f"a{comma}b\n가{comma}1\n나\n", encoding="utf-8")
    message = row_error_of(path, "text")
    assert "'text'" in message and "a, b" in message and "corpus.text_column" in message
    assert "corpus.document_column" in row_error_of(path, "a", "id")
    # The header is row 1.
    assert "row 3 has 1 columns, the header has 2" in row_error_of(path, "b")
    assert "row 3 has 1 columns, the header has 2" in row_error_of(path, "a", "b")
    assert "row 3 has 1 columns, the header has 2" in row_error_of(path, "a")
    assert "row 3 has 1 columns, row 1 has 2" in row_error_of(path, "1")
    assert "row 1 has 2 columns, corpus.text_column=3" in row_error_of(path, "3")


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("가,나\n", ("0",), "corpus.text_column=0"),
        ("가,나\n", ("1", "0"), "corpus.document_column=0"),
        ("가,나\n", ("1", "id"), "corpus.document_column=id"),
        ("text\ngood\nlone\rcr\n", ("text",), "row 3"),
        ("lone\rcr,text\ngood,1\n", ("text",), "row 1"),
    ],
)
def test_refused_tables(
    tmp_path: Path, content: str, columns: tuple[str, ...], message: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode())
    assert message in row_error_of(tmp_path / "a.csv", *columns)


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    texts = ['따옴표 " 와\n줄 끝', "\u2028 \x85", "", "\\u"]
    lines = [json.dumps({"text": t, "id": n}, ensure_ascii=n % 2 == 0) for n, t in enumerate(texts)]
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    assert rows_of(path, "text", "id") == [(t, str(n)) for n, t in enumerate(texts)]
    assert rows_of(path, "text") == [(t, "") for t in texts]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{broken", "not JSON"),
        ('{"text": "가"', "not JSON"),
        ("가나다", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"body": "가"}', "it has body"),
        ('{"text": null}', "'text'"),
        ('{"text": ["가"]}', "'text'"),
        ('["가"]', "it has list"),
        ('"text"', "it has str"),
    ],
)
def test_broken_jsonl(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(f'{{"text": "good"}}\n\n{line}\n', encoding="utf-8")
    message = row_error_of(path, "text")
    assert "line 3" in message and what in message
