"""The pieces of a corpus, read one by one, have the same lines as the whole corpus."""

import gzip
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import one_by_one

from korlm.config import CorpusConfig, DocumentUnit, Quoting, Separator
from korlm.corpus import scan
from korlm.corpus.pieces import Piece, PieceStart, digest_of, plan_pieces
from korlm.corpus.reader import read_corpus, read_piece
from korlm.corpus.scan import PieceScan, scan_piece, starts_of
from korlm.corpus.sources import find_sources
from korlm.corpus.validation import validate_corpus
from korlm.utils.errors import CorpusError


def config(folder: Path, **settings: Any) -> CorpusConfig:
    return CorpusConfig(name="test", files=[str(folder)], **settings)


def write(folder: Path, **texts: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_bytes(text.encode())


def scan_all(settings: CorpusConfig, piece_bytes: int) -> tuple[list[Piece], list[PieceScan]]:
    pieces = plan_pieces(settings, find_sources(settings), piece_bytes)
    return pieces, [scan_piece(settings, piece) for piece in pieces]


def check_pieces(settings: CorpusConfig, piece_bytes: int) -> int:
    """Compare the lines of the pieces with those of the corpus; return the number of pieces."""
    pieces, scans = scan_all(settings, piece_bytes)
    blocks = validate_corpus(settings, pieces, scans)
    starts = starts_of(settings, pieces, scans, blocks)
    expected = one_by_one(read_corpus(settings, find_sources(settings), blocks=blocks))
    lines = [
        line
        for piece, start, scan in zip(pieces, starts, scans, strict=True)
        for line in one_by_one(read_piece(settings, piece, start, blocks, scan.digest))
    ]
    assert lines == expected
    assert sum(scan.num_chars for scan in scans) == sum(len(line.text) + 1 for line in lines)
    return len(pieces)


def test_small_files_are_grouped(tmp_path: Path) -> None:
    write(tmp_path, **{f"{n:02}_txt": "가\n" * n for n in range(1, 12)})
    settings = config(tmp_path)
    pieces = plan_pieces(settings, find_sources(settings), 60)
    assert [piece.number for piece in pieces] == list(range(len(pieces)))
    assert [len(piece.sources) for piece in pieces] == [5, 2, 1, 1, 1, 1]
    assert check_pieces(settings, 60) == 6
    # Added files change the last group only.
    write(tmp_path, **{"12_txt": "가\n"})
    assert plan_pieces(settings, find_sources(settings), 60)[:5] == pieces[:5]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, a_txt="가\n")
    settings = config(tmp_path)
    (piece,) = plan_pieces(settings, find_sources(settings), 60)
    digest = scan_piece(settings, piece).digest
    write(tmp_path, a_txt="나\n")
    with pytest.raises(CorpusError, match=r"a\.txt: has changed while it was read"):
        list(read_piece(settings, piece, PieceStart(), digest=digest))


def test_a_file_that_changes_while_it_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, a_txt="가\n나\n")
    settings = config(tmp_path)
    (piece,) = plan_pieces(settings, find_sources(settings), 60)

    def change(*arguments: Any) -> tuple[str, int]:
        write(tmp_path, a_txt="가\n나\n다\n")
        return digest_of(*arguments)

    monkeypatch.setattr(scan, "digest_of", change)
    assert "a.txt: has changed while it was read" in scan_piece(settings, piece).error


def test_a_parquet_file_that_loses_row_groups(tmp_path: Path) -> None:
    table = pa.table({"text": [f"글 {number}" for number in range(1000)]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=100)
    settings = config(tmp_path)
    pieces, scans = scan_all(settings, 1500)
    starts = starts_of(settings, pieces, scans)
    pq.write_table(table[:150], path, row_group_size=100)
    for piece, start, found in zip(pieces, starts, scans, strict=True):
        with pytest.raises(CorpusError, match=r"a\.parquet: has changed while it was read"):
            list(read_piece(settings, piece, start, None, found.digest))


def test_a_table_that_loses_its_rows(tmp_path: Path) -> None:
    write(tmp_path, a_tsv="text\n" + "가나다\n" * 50)
    settings = config(tmp_path, quoting=Quoting.none, text_column="1")
    pieces, scans = scan_all(settings, 100)
    starts = starts_of(settings, pieces, scans)
    write(tmp_path, a_tsv="\n")
    for piece, start, found in zip(pieces, starts, scans, strict=True):
        with pytest.raises(CorpusError, match=r"a\.tsv: has changed while it was read"):
            list(read_piece(settings, piece, start, None, found.digest))


@pytest.mark.parametrize("line", ["\n", "\u200b\n"])
def test_a_file_of_blank_lines(tmp_path: Path, line: str) -> None:
    write(tmp_path, a_txt="가\n", b_txt=line * 100)
    settings = config(tmp_path)
    pieces, scans = scan_all(settings, 20)
    is_divided = line != "\n"  # then no scan of a part can report it
    assert (len(pieces) > 2) is is_divided and any(scan.error for scan in scans) is not is_divided
    with pytest.raises(CorpusError, match=r"b\.txt: holds no text \(blank lines"):
        validate_corpus(settings, pieces, scans)


def random_lines(rng: random.Random) -> list[str]:
    texts = ["", "", " ", "\u3000", "가", "나 다\r", "\u200b", "라" * 30, "\x0b\u2028마", '바 "사"']
    return rng.choices(texts, k=rng.randint(5, 60))


@pytest.mark.parametrize("unit", DocumentUnit)
@pytest.mark.parametrize("seed", range(12))
def test_large_text_files_are_cut(tmp_path: Path, unit: DocumentUnit, seed: int) -> None:
    rng = random.Random(seed)
    encoding = rng.choice(["utf-8", "utf-8-sig", "cp949", "utf-16"])
    end = rng.choice(["\n", "\r\n", "\n", "\r"])
    for name in "abc"[: rng.randint(1, 3)]:
        lines = ["가 나", *random_lines(rng)]
        rng.shuffle(lines)
        text = end.join(lines).encode(encoding, errors="ignore")
        (tmp_path / f"{name}.txt").write_bytes(text)
    name = "cp949" if encoding == "cp949" else "utf8"
    settings = config(tmp_path, document_unit=unit, encoding=name)
    num_pieces = [check_pieces(settings, size) for size in (1, 3, 10, 50, 1000)]
    assert num_pieces == sorted(num_pieces, reverse=True)
    if encoding == "utf-16" or end == "\r":
        assert num_pieces[0] <= 3
    elif unit is not DocumentUnit.blank_line:
        assert num_pieces[0] > 6


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("ending", ["jsonl", "tsv", "csv", "parquet"])
@pytest.mark.parametrize("seed", range(6))
def test_large_files_of_records_are_cut(
    tmp_path: Path, ending: str, seed: int, named: bool
) -> None:
    rng = random.Random(seed)
    rows = [(rng.choice(["가", "나 다", "", '"라', "마" * 20]), "x")]
    while len(rows) < 60:
        document = "" if ending == "tsv" and rng.random() < 0.1 else f"글 {len(rows)}"
        texts = rng.choices(["가", "나 다", "", '"라', "마" * 20], k=rng.choice([1, 1, 2, 30]))
        rows += [(text, document) for text in texts]
    if named:  # rows of a document need not be consecutive
        rng.shuffle(rows)
    head, columns = ["text\tby"], {"text_column": "text", "document_column": "by"}
    if seed % 2:
        head, columns = [], {"text_column": "1", "document_column": "2"}
    if not named:
        del columns["document_column"]
    if ending == "parquet":
        table = pa.table({"text": [t for t, _ in rows], "by": [d for _, d in rows]})
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=rng.randint(1, 20))
        columns |= {"text_column": "text"} | ({"document_column": "by"} if named else {})
    elif ending == "jsonl":
        lines = [json.dumps({"text": t, "by": d or "없음"}) for t, d in rows]
        lines = [line for pair in lines for line in [pair] + [""] * rng.randint(0, 1)]
        write(tmp_path, a_jsonl="\n".join(lines))
        columns |= {"text_column": "text"} | ({"document_column": "by"} if named else {})
    else:
        lines = ["", *head, *("\t".join(row) for row in rows), ""]
        write(tmp_path, **{f"a_{ending}": "\n".join(lines)})
    settings = config(tmp_path, quoting=Quoting.none, separator=Separator.tab, **columns)
    num_pieces = [check_pieces(settings, size) for size in (1, 10, 100, 10_000)]
    assert num_pieces == sorted(num_pieces, reverse=True)
    assert (num_pieces[0] == 1) if named else (num_pieces[0] > 2)
    assert num_pieces[-1] == 1


def test_lines_of_a_document_whose_rows_are_anywhere(tmp_path: Path) -> None:
    rows = [f"{row}\t{document}" for row, document in enumerate("가나가나가가")]
    write(tmp_path, a_tsv="\n".join(["text\tby", *rows]))
    settings = config(tmp_path, quoting=Quoting.none, document_column="by")
    pieces, scans = scan_all(settings, 20)
    starts = starts_of(settings, pieces, scans)
    lines = [
        (line.text, line.doc_id, line.line)
        for piece, start in zip(pieces, starts, strict=True)
        for line in one_by_one(read_piece(settings, piece, start))
    ]
    expected = zip("012345", "가나가나가가", (1, 1, 2, 2, 3, 4), strict=True)
    assert lines == [(text, f"a.tsv#{by}", number) for text, by, number in expected]


@pytest.mark.parametrize("seed", range(6))
def test_large_conll_files_are_cut(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    sentences = []
    for _ in range(30):
        comments = rng.choice([[], ["# 말"], ["## 1\t말", "# x"], ["# only", "", "# y"]])
        tokens = [f"{rng.choice('가나다#')}\t{rng.choice(['O', 'B-x'])}" for _ in range(3)]
        sentences.append("\n".join([*comments, *tokens]))
    write(tmp_path, a_conll="\n# 글\n\n" + rng.choice(["\n\n", "\n \n\n"]).join(sentences))
    settings = config(tmp_path, text_column="1", label_column="2")
    num_pieces = [check_pieces(settings, size) for size in (1, 50, 200, 10_000)]
    assert num_pieces[0] > 20 and num_pieces[-1] == 1


@pytest.mark.parametrize("unit", DocumentUnit)
def test_a_book_is_divided_by_blocks_of_lines(tmp_path: Path, unit: DocumentUnit) -> None:
    write(tmp_path, a_txt="가\n나 다\n" * 40, b_txt="라" * 2000 + "\n마\n바\n" + "사\n" * 5)
    for size in (1, 20, 100, 1000):
        check_pieces(config(tmp_path, document_unit=unit, valid_fraction=0.3), size)


def test_files_that_stay_whole(tmp_path: Path) -> None:
    text = "가\n" * 100
    with gzip.open(tmp_path / "a.txt.gz", "wt", encoding="utf-8", newline="") as file:
        file.write(text)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("c.txt", text)
    write(tmp_path, d_csv="text\n" + text, e_tsv="text\n" + text)
    write(tmp_path, f_json=json.dumps([{"text": "가"}] * 50))
    settings = config(tmp_path)
    assert check_pieces(settings, 1) == 5
    assert check_pieces(config(tmp_path, quoting=Quoting.none), 150) == 2 + 2 * 2 + 1


ERRORS = {
    "a_txt": (b"\xff\n", "line 51, byte 1 .*not utf-8"),
    "a_jsonl": (b"[\n", "line 51 is not JSON"),
    "a_tsv": (b"1\t2\n", "row 51 has 2 columns, the header has 1"),
    "a_conll": (b"a b\n", "line 51 has 2 columns, line 1 has 1"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_line_of_the_file(tmp_path: Path, name: str) -> None:
    line = {"a_jsonl": '{"text": "가"}', "a_tsv": "text", "a_conll": "가"}.get(name, "가")
    path = tmp_path / name.replace("_", ".")
    path.write_bytes(f"{line}\n".encode() * 50 + ERRORS[name][0] + b"\n" + line.encode())
    if name == "a_conll":
        path.write_bytes(path.read_bytes().replace("가\n".encode(), "가\n\n".encode(), 25))
    settings = config(tmp_path, quoting=Quoting.none)
    pieces, scans = scan_all(settings, 20)
    assert len(pieces) > 3
    with pytest.raises(
        CorpusError, match=ERRORS[name][1].replace("51", str(51 + 25 * (name == "a_conll")))
    ):
        validate_corpus(settings, pieces, scans)


def test_remarks_name_the_line_of_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [f"{n}" for n in range(200)]
    lines[50] += "\u200b"
    lines[60] += "\rx"
    lines[70] += "\u200b\rx"
    write(tmp_path, a_txt="\n".join(lines))
    settings = config(tmp_path, document_unit=DocumentUnit.line)
    assert check_pieces(settings, 20) > 5
    assert "carriage returns within lines, read as blanks: 2 (first in a.txt#61)" in caplog.text
    assert "2, U+200B 2 (first in a.txt#51)" in caplog.text


def test_other_columns_are_kept(tmp_path: Path) -> None:
    rows = [{"text": "가\n나", "id": 7, "tags": ["x", None]}, {"text": "다", "id": None, "tags": 0}]
    write(tmp_path, a_jsonl="\n".join(map(json.dumps, rows)))
    write(tmp_path, b_tsv="id\ttext\ttags\n8\t라\t\n")
    table = pa.table({"tags": ["y"], "text": ["마"], "id": pa.array([None], pa.int64())})
    pq.write_table(table, tmp_path / "c.parquet")
    settings = config(tmp_path, keep_columns=["id", "tags"])
    blocks = list(read_corpus(settings, find_sources(settings)))
    assert [block.texts for block in blocks] == [["가", "나"], ["다"], ["라"], ["마"]]
    assert [block.columns for block in blocks] == [
        {"id": ["7", "7"], "tags": ['["x", null]'] * 2},
        {"id": [""], "tags": ["0"]},
        {"id": ["8"], "tags": [""]},
        {"id": [""], "tags": ["y"]},
    ]
    assert blocks[0].part(1, 2).columns == {"id": ["7"], "tags": ['["x", null]']}
    labeled = config(tmp_path / "b.tsv", keep_columns=["id"], label_column="id")
    (block,) = read_corpus(labeled, find_sources(labeled))
    assert block.columns == {"id": ["8"]}


@pytest.mark.parametrize(
    "name, text, error",
    [
        ("a_jsonl", '{"text": "가", "by": "x"}', "line 1 has nothing under 'id' .*has text, by"),
        ("a_tsv", "text\tby\n가\tx\n", "no column 'id', only text, by; give corpus.keep_columns="),
        ("a_txt", "가\n", "plain text has no columns for corpus.keep_columns"),
        ("a_conll", "가 x\n", "corpus.keep_columns is for columns of lines"),
    ],
)
def test_a_column_to_keep_that_is_missing(tmp_path: Path, name: str, text: str, error: str) -> None:
    write(tmp_path, **{name: text})
    settings = config(tmp_path, keep_columns=["id"])
    with pytest.raises(CorpusError, match=error):
        list(read_corpus(settings, find_sources(settings)))


@pytest.mark.parametrize("name", ["a_txt", "a_jsonl"])
def test_blank_lines_and_records_are_no_documents(tmp_path: Path, name: str) -> None:
    texts = ["", "나는 간다", "", "\u200b", "집에 온다", ""]
    lines = texts if name == "a_txt" else [json.dumps({"text": text}) for text in texts]
    write(tmp_path, **{name: "".join(f"{line}\n" for line in lines)})
    settings = config(tmp_path, document_unit=DocumentUnit.line)
    (piece,) = plan_pieces(settings, find_sources(settings), 1000)
    found = scan_piece(settings, piece)
    assert (found.num_documents, found.undivided_lines) == (2, 2)
    with pytest.raises(CorpusError, match="2 documents with 2 lines of text cannot fill"):
        validate_corpus(settings, [piece], [found])
