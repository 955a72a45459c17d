"""Rows of tables: separators, quotes, and refused rows."""

import csv
import io
import random
from pathlib import Path
from typing import Any

import one_line
import pytest

from korlm.config import CorpusFormat, Quoting, Separator, TextConfig
from korlm.corpus.files import read_records
from korlm.corpus.formats.delimited import CELL_CHARS, find_quoting, find_separator
from korlm.corpus.records import Notes

ROWS = [
    ("1", "좋은 영화다"),
    ("2", '그는 "최고"라 했다'),
    ("3", "두 줄\n\n짜리 글"),
    ("4", "탭\t있고 쉼표, 쌍반점; 막대|"),
    ("5", ""),
    ("6", "끝"),
]


def read(path: Path, text: str = "text", notes: Notes | None = None, **settings: Any) -> list[str]:
    config = TextConfig(text_column=text, **settings)
    return [record.text for record in read_records(path, config, notes)]


def error_of(path: Path, text: str = "text", **settings: Any) -> str:
    return one_line.error_of(lambda: read(path, text, **settings), f"{path}: ")


def table(rows: Any, separator: str, quoting: Any = csv.QUOTE_MINIMAL, end: str = "\n") -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator, quoting=quoting, lineterminator=end).writerows(rows)
    return stream.getvalue()


# Quotes


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("separator", "\t,;|")
def test_tables_as_pandas_and_excel_write_them(
    tmp_path: Path, separator: str, quoting: Any, end: str
) -> None:
    for ending in ("tsv", "csv"):
        path = tmp_path / f"a.{ending}"
        path.write_bytes(table([("id", "text"), *ROWS], separator, quoting, end).encode())
        assert read(path) == [text for _, text in ROWS]
        headless = tmp_path / f"b.{ending}"
        headless.write_bytes(table(ROWS, separator, quoting, end).encode())
        assert read(headless, "2") == [text for _, text in ROWS]


def test_quotes_that_are_text_stay(tmp_path: Path) -> None:
    path = tmp_path / "reviews.tsv"
    texts = ['"열린', '닫힌"', '"둘 다"', '"', '""', "안의 \"따옴표\" ''", '끝 ""']
    path.write_text(
        "id\ttext\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(texts)), encoding="utf-8"
    )
    notes = Notes()
    assert read(path, notes=notes) == texts and notes.lines() == []


def test_quotes_that_could_be_both_are_kept_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('id\ttext\n1\t"가 나"\n2\t다\n', encoding="utf-8")
    notes = Notes()
    assert read(path, notes=notes) == ['"가 나"', "다"]
    (line,) = notes.lines()
    assert line.startswith(
        "cells that keep their double quotes (corpus.quoting=csv removes them): 1"
    )
    assert read(path, quoting=Quoting.csv) == ["가 나", "다"]


@pytest.mark.parametrize(
    ("text", "quoting"),
    [
        ('a\tb\n1\t"x"\n', Quoting.none),  # may be both
        ('a\tb\n1\t"x""y"\n', Quoting.csv),  # doubled
        ('a\tb\n1\t"x\ty"\n', Quoting.csv),  # has another number of columns as text
        ('a\tb\n1\t"x\n2\ty"\n', Quoting.none),  # two rows as text
        ('a\tb\n1\t"x\ny"\n', Quoting.csv),
        ('"a"\t"b"\n1\t"x"\n', Quoting.csv),  # names of columns have no quotes
        ('"a"\t"b"\n"1"\t"x"\n', Quoting.csv),
        ('a\tb\n1\t"x""y" z\n', Quoting.none),  # text behind a quoted cell
        ('a\tb\n1\tx "y"\n2\t"x""y"\n', Quoting.none),  # would have been quoted
        ('a\tb\n1\t"x""y"\n2\n', Quoting.none),  # neither fits
        ('a\tb\n1\t"x""y"\n2\t"x\n', Quoting.none),  # never closed
        ("a\tb\n1\tx\n", Quoting.none),
    ],
)
def test_find_quoting(text: str, quoting: Quoting) -> None:
    assert find_quoting(text.rstrip("\n").split("\n"), "\t", True)[0] is quoting


def test_find_quoting_reads_on_for_a_bounded_time() -> None:
    read_lines = 0

    def lines() -> Any:
        nonlocal read_lines
        for number in range(1000):
            read_lines += 1
            yield f'{number}\t"{"가" * 10_000}' if number == 0 else f"{number}\t{'가' * 10_000}"

    assert find_quoting(lines(), "\t", False) == (Quoting.none, 0)
    assert read_lines < CELL_CHARS // 10_000 + 3


@pytest.mark.parametrize("seed", range(20))
def test_random_quoted_tables_round_trip(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    texts = ["".join(rng.choices('가나 "\n\t,', k=rng.randrange(8))) + "." for _ in range(30)]
    texts.append('"')  # ensures a doubled quote
    path = tmp_path / "a.tsv"
    path.write_text(table([("text", "n"), *((t, 1) for t in texts)], "\t"), encoding="utf-8")
    assert read(path) == texts


def test_settings_of_quoting(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,n\n"가",1\n"나" 다,2\n', encoding="utf-8")
    message = error_of(path)
    assert "row 3: text follows the closing quote of a cell" in message
    assert "corpus.quoting=none" in message
    assert read(path, quoting=Quoting.none) == ['"가"', '"나" 다']
    path.write_text('text,n\n가,1\n"나 다,2\n라,3\n', encoding="utf-8")
    assert "row 3: a quote begins a cell here and is never closed" in error_of(path)


# Columns


@pytest.mark.parametrize("ending", ["tsv", "csv"])
@pytest.mark.parametrize("separator", "\t,;|")
def test_rows_of_another_width_are_refused(tmp_path: Path, ending: str, separator: str) -> None:
    path = tmp_path / f"a.{ending}"
    rows = [("id", "text", "label"), ("1", "가", "0"), (), ("2", "나"), ("3", "다", "0")]
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding="utf-8")
    assert "row 4 has 2 columns, the header has 3" in error_of(path)
    rows[3] = ("2", "나", "0", "더")
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding="utf-8")
    assert "row 4 has 4 columns, the header has 3" in error_of(path)


def test_a_refused_row_of_a_quoted_table_is_reported_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,n\n"두\n줄",1\n가\n', encoding="utf-8")
    assert "row 3 (line 4) has 1 columns, the header has 2" in error_of(path)


def test_a_missing_header(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"9976970\t{'가' * 200}\t0\n", encoding="utf-8")
    message = error_of(path, "document")
    assert "row 1 is read as the header and has no column 'document'" in message
    assert f"only 9976970, {'가' * 40}..., 0;" in message
    assert "number of the column if the file has no header" in message


def test_names_of_the_columns_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id;document;label\n1;가;0\n", encoding="utf-8")
    assert "only id, document, label;" in error_of(path)
    assert read(path, "document") == ["가"]


@pytest.mark.parametrize(
    ("first_line", "columns", "file_format", "separator"),
    [
        ("text", ["text"], CorpusFormat.tsv, "\t"),
        ("id\ttext", ["text"], CorpusFormat.tsv, "\t"),
        ("id,text", ["text"], CorpusFormat.tsv, ","),
        ("id;text|x", ["text|x"], CorpusFormat.tsv, ";"),
        ('"id";"text"', ["text"], CorpusFormat.csv, ";"),
        ("id\ttext", ["text"], CorpusFormat.csv, "\t"),
        ("id|text", ["text", "id"], CorpusFormat.csv, "|"),
        ("id;text", ["text", "by"], CorpusFormat.csv, ";"),  # for the message
        ("안녕, 세상", ["1"], CorpusFormat.tsv, "\t"),
        ("1,안녕", ["2"], CorpusFormat.tsv, ","),
        ("1;안녕", ["1", "2"], CorpusFormat.csv, ";"),
        ("", ["text"], CorpusFormat.tsv, "\t"),
        ("lone\rcr\0,text", ["text"], CorpusFormat.csv, ","),
    ],
)
def test_find_separator(
    first_line: str, columns: list[str], file_format: CorpusFormat, separator: str
) -> None:
    settings = dict(zip(("text_column", "document_column"), columns, strict=False))
    assert find_separator(TextConfig(**settings), file_format, first_line) == separator


def test_a_given_separator(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("가;나|다\n", encoding="utf-8")
    as_csv = {"format": CorpusFormat.csv}
    assert read(path, "1", separator=Separator.semicolon, **as_csv) == ["가"]
    assert read(path, "1", separator=Separator.pipe, **as_csv) == ["가;나"]


def test_names_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,text\n가,1,나\n", encoding="utf-8")
    assert "has 2 columns 'text' (corpus.text_column); rename all but one" in error_of(path)
    path.write_text(" text ,label\n가,1\n", encoding="utf-8")  # blanks around a name are shown
    assert "has no column 'text', only ' text ', label; " in error_of(path)
