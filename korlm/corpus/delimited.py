"""Tables of text -> rows of (text, document): columns parted by tabs, commas, semicolons or |.

A ``.csv`` has cells in double quotes where they need them. In a ``.tsv`` quotes are text to some
writers (the Naver movie reviews) and quoting to others (pandas, Excel). The whole file decides,
where it is unambiguous, and never a guess: see ``find_quoting``. Each row must have as many columns
as the header, so that a wrong decision cannot go unnoticed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from korlm.config import CorpusFormat, Quoting, Separator
from korlm.corpus.notes import Notes
from korlm.utils.errors import CorpusError

SEPARATORS = {
    Separator.tab: "\t",
    Separator.comma: ",",
    Separator.semicolon: ";",
    Separator.pipe: "|",
}


CELL_CHARS = 1 << 20  # of a quoted cell; more without its end means that a quote is text


_FIELD_CHARS = 1 << 30  # Python's own limit is 131,072


_SHOWN_COLUMNS, _SHOWN_CHARS = 12, 40  # of a header in messages


LineBlock = Callable[[], Iterable[str]]  # reads a file from its beginning


@dataclass(frozen=True)
class TableFormat:
    """How a table is laid out and which of its columns are read.

    Attributes:
        text: name of the column of the text; a number counts from 1 in a table without a header.
        document: the same of what tells documents apart; empty: each row is a document.
        layout: tsv or csv.
        separator: of columns; auto: the one that finds the named columns in the header, else what
            the layout says.
        quoting: what quotes mean; auto: csv in a csv, and in a tsv as ``find_quoting`` decides.
    """

    text: str
    document: str = ""
    layout: CorpusFormat = CorpusFormat.tsv
    separator: Separator = Separator.auto
    quoting: Quoting = Quoting.auto

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        return [name for name in (self.text, self.document) if name]

    @property
    def has_header(self) -> bool:
        """Whether the first row holds names."""
        return not self.text.isdecimal()


def read_table(
    path: Path, lines: LineBlock, table: TableFormat, notes: Notes, can_reread: bool = True
) -> Iterator[tuple[str, str]]:
    """Read the rows of a table as (text, document), in file order; blank rows are left out.

    Args:
        path: of the file, for messages.
        lines: reads the lines of the file from its beginning, without their ends.
        table: how the table is laid out.
        notes: what is remarkable is counted there.
        can_reread: whether ``lines`` can be called more than once.

    Raises:
        CorpusError: a column is missing, a row has another number of columns than the first one, or
            the quoting is broken.
    """
    reread = lines if can_reread else lambda: ()
    separator = find_separator(table, next(iter(reread()), ""))
    quoting = table.quoting
    if quoting is Quoting.auto and table.layout is CorpusFormat.csv:
        quoting = Quoting.csv
    elif quoting is Quoting.auto:
        quoting, kept = find_quoting(reread(), separator, table.has_header)
        if kept:
            notes.add(
                "cells that keep their double quotes (corpus.quoting=csv removes them)",
                str(path),
                kept,
            )
    columns: tuple[int, int | None] | None = None
    width, header = 0, ""
    for number, line, row in _rows(path, lines(), separator, quoting):
        if columns is None:
            width, header = len(row), "the header" if table.has_header else "row 1"
            columns = _columns(path, row, table)
            if table.has_header:
                continue
        if len(row) != width:
            raise CorpusError(
                f"{path}: {_place(number, line)} has {len(row)} columns, {header} has {width}; "
                "mend the row" + _quoting_advice(row, quoting)
            )
        text_at, document_at = columns
        yield row[text_at], "" if document_at is None else row[document_at]
    if columns is None and table.has_header:
        _columns(path, [], table)


def find_separator(table: TableFormat, first: str) -> str:
    """Return what stands between the columns of a table.

    Args:
        table: what is known of it.
        first: its first line.

    >>> find_separator(TableFormat("text", layout=CorpusFormat.csv), "id;text")
    ';'
    """
    if table.separator is not Separator.auto:
        return SEPARATORS[table.separator]
    default = "," if table.layout is CorpusFormat.csv else "\t"
    csv.field_size_limit(_FIELD_CHARS)
    first = re.sub("[\r\0]", " ", first)  # which the parser refuses
    cells = {sep: next(csv.reader([first], delimiter=sep), []) for sep in SEPARATORS.values()}
    if table.has_header:
        found = [sep for sep in cells if set(table.names) <= {*cells[sep], *first.split(sep)}]
    else:
        needed = max((int(name) for name in table.names if name.isdecimal()), default=1)
        found = [sep for sep in cells if len(cells[sep]) >= needed]
    if not found and default not in first:  # so that the message names the columns that are there
        found = [sep for sep in cells if sep in first]
    return found[0] if len(found) == 1 and default not in found else default


def find_quoting(lines: Iterable[str], separator: str, has_header: bool) -> tuple[Quoting, int]:
    """Decide what double quotes mean in a table, from all of it.

    They quote if the whole table can be read so - each cell that holds a quote begins and ends with
    one and has the others doubled, and each row has as many columns as the first - and if it cannot
    well be otherwise: rows would have other numbers of columns, quotes are doubled, or all cells
    (or all names of the header) are quoted. In every other case quotes are text.

    Args:
        lines: of the table.
        separator: of its columns.
        has_header: whether the first row holds names.

    Returns:
        csv or none, and the number of cells that could also be quoted although quotes are text.

    >>> find_quoting(["id,text", '1,"그는 ""왜""라 했다"'], ",", True)
    (<Quoting.csv: 'csv'>, 0)
    >>> find_quoting(["id,text", '1,"왜?"'], ",", True)
    (<Quoting.none: 'none'>, 1)
    """
    end = re.escape(separator)
    quoted = re.compile(rf'(?:(?<={end})|\A)"((?:[^"]|"")*)"(?={end}|\Z)')
    cell = rf'(?:"[^"]*(?:""[^"]*)*"|[^"{end}\n]*)'
    row = re.compile(rf"{cell}(?:{end}{cell})*")
    width = num_quoted = size = 0
    fits_as_text = all_quoted = True
    is_doubled = header_quoted = is_open = False
    held: list[str] = []  # lines of a row that goes on in the next line
    for line in lines:
        if not held and '"' not in line:
            if line:
                all_quoted = False
                num_columns = line.count(separator) + 1
                width = width or num_columns
                if num_columns != width:
                    return Quoting.none, 0
            continue
        held.append(line)
        size += len(line)
        is_open ^= line.count('"') % 2 == 1
        if is_open and size <= CELL_CHARS:
            continue
        whole = "\n".join(held)
        if is_open or not row.fullmatch(whole):
            return Quoting.none, 0
        outside, cells = quoted.sub("", whole), quoted.findall(whole)
        is_first, width = not width, width or outside.count(separator) + 1
        if outside.count(separator) + 1 != width:
            return Quoting.none, 0
        fits_as_text &= all(part.count(separator) + 1 == width for part in held)
        is_doubled |= any('""' in content for content in cells)
        all_quoted &= not outside.strip(separator)
        header_quoted |= has_header and is_first and all_quoted
        num_quoted += len(cells)
        held, size = [], 0
    if held or not num_quoted:
        return Quoting.none, 0
    if not fits_as_text or is_doubled or all_quoted or header_quoted:
        return Quoting.csv, 0
    return Quoting.none, num_quoted


def _rows(
    path: Path, lines: Iterable[str], separator: str, quoting: Quoting
) -> Iterator[tuple[int, int, list[str]]]:
    """The rows that are not blank, each with its number and the line where it begins."""
    if quoting is Quoting.none:
        for number, line in enumerate(lines, 1):
            if line:
                yield number, number, line.split(separator)
        return
    csv.field_size_limit(_FIELD_CHARS)
    # Strict: a quote that is never closed would swallow all that follows.
    reader = csv.reader((line + "\n" for line in lines), delimiter=separator, strict=True)
    number = 0
    while True:
        number, first = number + 1, reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CorpusError(f"{path}: {_place(number, first)}: {_cause(error)}") from None
        if row and row != [""]:
            yield number, first, row


def _place(row: int, line: int) -> str:
    return f"row {row}" + f" (line {line})" * (row != line)


def _cause(error: csv.Error) -> str:
    """Why a row cannot be read, from the words of Python's parser."""
    told = str(error)
    advice = "double the quotes within quoted cells, or give corpus.quoting=none if quotes are text"
    if "expected after" in told:
        return f"text follows the closing quote of a cell; {advice}"
    if "unexpected end of data" in told:
        return f"a quote begins a cell here and is never closed; {advice}"
    if "new-line character" in told:
        return "a cell without quotes holds a carriage return (CR); put the cell in quotes"
    return told


def _quoting_advice(row: list[str], quoting: Quoting) -> str:
    if quoting is Quoting.none and any('"' in cell for cell in row):
        return ", or give corpus.quoting=csv if quoted cells hold separators or line ends"
    if quoting is Quoting.csv and any("\n" in cell for cell in row):
        return ", or give corpus.quoting=none if quotes are text"
    return ""


def _columns(path: Path, row: list[str], table: TableFormat) -> tuple[int, int | None]:
    """Where the text and the document stand in a row."""
    text = _column(path, row, table, table.text, "text_column")
    if not table.document:
        return text, None
    return text, _column(path, row, table, table.document, "document_column")


def _column(path: Path, row: list[str], table: TableFormat, name: str, key: str) -> int:
    if table.has_header:
        if name in row:
            return row.index(name)
        shown = ", ".join(_short(cell) for cell in row[:_SHOWN_COLUMNS]) or "an empty first line"
        shown += ", ..." * (len(row) > _SHOWN_COLUMNS)
        raise CorpusError(
            f"{path}: row 1 is read as the header and has no column {name!r}, only {shown}; give "
            f"corpus.{key}=NAME, or the number of the column if the file has no header "
            "(corpus.separator=comma|tab|semicolon|pipe if it is parted otherwise)"
        )
    if not name.isdecimal() or int(name) < 1:
        raise CorpusError(
            f"{path}: corpus.{key}={name} must be a number from 1 on, as corpus.text_column is "
            "a number"
        )
    if int(name) > len(row):
        raise CorpusError(
            f"{path}: row 1 has {len(row)} columns, corpus.{key}={name} needs {name}; "
            "corpus.separator=comma|tab|semicolon|pipe says what parts them"
        )
    return int(name) - 1


def _short(cell: str) -> str:
    cell = " ".join(cell.split())
    return cell if len(cell) <= _SHOWN_CHARS else f"{cell[:_SHOWN_CHARS]}..."
