"""Read tables: .tsv and .csv files with tabs, commas, semicolons or | between the columns.

In a ``.csv``, cells may be quoted. In a ``.tsv``, double quotes are text for some programs (the
Naver movie reviews) and quoting for others (pandas, Excel); ``find_quoting`` decides, from the
whole file. Each row must have as many columns as the first, so that a wrong decision is detected.
"""

from __future__ import annotations

import csv
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from korlm.config import CorpusFormat, Quoting, Separator, TextConfig
from korlm.corpus.containers import STDIN
from korlm.corpus.records import Line, Notes, Record, to_record
from korlm.utils.errors import CorpusError

SEPARATORS = {
    Separator.tab: "\t",
    Separator.comma: ",",
    Separator.semicolon: ";",
    Separator.pipe: "|",
}

CELL_CHARS = 1 << 20  # longest quoted cell; a longer one means that the quote is text
_FIELD_CHARS = 1 << 30  # limit of the module csv, whose default is 131,072
_SHOWN_COLUMNS, _SHOWN_CHARS = 12, 40  # columns of a header, and characters of each, in messages


def read_table(
    path: Path,
    read_lines: Callable[[], Iterable[str]],
    config: TextConfig,
    file_format: CorpusFormat,
    notes: Notes,
    rest: Iterable[Line] | None = None,
) -> Iterator[Record]:
    """Yield the rows of a table, in file order; blank rows are skipped.

    Args:
        path: the file.
        read_lines: returns the lines of the file from its beginning. Those of standard input are
            kept in memory unless the settings name separator and quoting.
        config: columns, separator and quoting.
        file_format: tsv or csv.
        notes: counts remarks on the file.
        rest: the lines to read after the first row, which has or counts the columns; None: all
            lines. Only with ``quoting=none``.

    Raises:
        CorpusError: a column is missing, a row has another number of columns than the first one, or
            the quoting is broken.
    """
    if path == STDIN and not _is_dialect_named(config):
        read_lines = functools.partial(iter, list(read_lines()))
    separator, quoting = _find_dialect(path, read_lines, config, file_format, notes)
    columns: list[int] | None = None
    width, first_row = 0, "the header" if _has_header(config) else "row 1"
    lines: Iterable[Line] = enumerate(read_lines(), 1)
    if rest is not None:
        first = itertools.islice((line for line in lines if line[1]), 1)
        lines = itertools.chain(first, rest)
    for number, line, row in _rows(path, lines, separator, quoting):
        if columns is None:
            columns = _find_columns(path, row, config)
            width = len(row)
            if _has_header(config) or rest is not None:
                continue
        if len(row) != width:
            raise CorpusError(
                f"{path}: {_row_name(number, line)} has {len(row)} columns, {first_row} has "
                f"{width}; correct the row" + _quoting_advice(row, quoting)
            )
        yield to_record(config, [row[index] for index in columns])
    if columns is None and _has_header(config):
        _find_columns(path, [], config)


def read_names(
    path: Path,
    read_lines: Callable[[], Iterable[str]],
    config: TextConfig,
    file_format: CorpusFormat,
) -> list[str]:
    """Return the other columns than that of the text; their numbers if the file has no header.

    Raises:
        CorpusError: the quoting of the first row is broken.
    """
    separator, quoting = _find_dialect(path, read_lines, config, file_format, Notes())
    for _, _, row in _rows(path, enumerate(read_lines(), 1), separator, quoting):
        names = row if _has_header(config) else [str(n) for n in range(1, len(row) + 1)]
        return [name for name in dict.fromkeys(names) if name and name != config.text_column]
    return []


def _find_dialect(
    path: Path,
    read_lines: Callable[[], Iterable[str]],
    config: TextConfig,
    file_format: CorpusFormat,
    notes: Notes,
) -> tuple[str, Quoting]:
    """Return the separator of a table, and whether quotes are quoting: csv or none."""
    first_line = "" if _is_dialect_named(config) else next(iter(read_lines()), "")
    separator = find_separator(config, file_format, first_line)
    quoting = config.quoting
    if quoting is Quoting.auto and file_format is CorpusFormat.csv:
        quoting = Quoting.csv
    elif quoting is Quoting.auto:
        quoting, num_kept = find_quoting(read_lines(), separator, _has_header(config))
        if num_kept:
            remark = "cells that keep their double quotes (corpus.quoting=csv removes them)"
            notes.add(remark, str(path), num_kept)
    return separator, quoting


def _is_dialect_named(config: TextConfig) -> bool:
    return config.separator is not Separator.auto and config.quoting is not Quoting.auto


def _has_header(config: TextConfig) -> bool:
    """Return True if the first row has the names of the columns."""
    return not config.text_column.isdecimal()


def find_separator(config: TextConfig, file_format: CorpusFormat, first_line: str) -> str:
    """Return the separator of the columns of a table.

    If the settings do not name one, it is the separator for which the first line has the columns of
    the settings, else the usual one of the format.

    >>> find_separator(TextConfig(text_column="text"), CorpusFormat.csv, "id;text")
    ';'
    """
    if config.separator is not Separator.auto:
        return SEPARATORS[config.separator]
    default = "," if file_format is CorpusFormat.csv else "\t"
    csv.field_size_limit(_FIELD_CHARS)
    first_line = re.sub("[\r\0]", " ", first_line)  # csv.reader rejects these
    cells = {sep: next(csv.reader([first_line], delimiter=sep), []) for sep in SEPARATORS.values()}
    names = [name for _, name in config.columns]
    if _has_header(config):
        matches = [sep for sep in cells if set(names) <= {*cells[sep], *first_line.split(sep)}]
    else:
        num_columns = max((int(name) for name in names if name.isdecimal()), default=1)
        matches = [sep for sep in cells if len(cells[sep]) >= num_columns]
    if not matches and default not in first_line:  # the error then names the actual columns
        matches = [sep for sep in cells if sep in first_line]
    return matches[0] if len(matches) == 1 and default not in matches else default


def find_quoting(lines: Iterable[str], separator: str, has_header: bool) -> tuple[Quoting, int]:
    """Decide from all lines of a table whether double quotes are quoting or text.

    They are quoting if two conditions are true; otherwise they are text:

    - The table can be read with quoting: each cell with a quote begins and ends with one and has
      the others doubled, and all rows have the same number of columns.
    - There is evidence of quoting: without it the numbers of columns would differ, or quotes are
      doubled, or all cells (or all names in the header) are quoted.

    Returns:
        ``Quoting.csv`` and 0; or ``Quoting.none`` and the number of cells that begin and end with a
        quote nevertheless, 0 if the first condition is false.

    >>> find_quoting(["id,text", '1,"그는 ""왜""라 했다"'], ",", True)
    (<Quoting.csv: 'csv'>, 0)
    >>> find_quoting(["id,text", '1,"왜?"'], ",", True)
    (<Quoting.none: 'none'>, 1)
    """
    end = re.escape(separator)
    quoted = re.compile(rf'(?:(?<={end})|\A)"((?:[^"]|"")*)"(?={end}|\Z)')
    cell = rf'(?:"[^"]*(?:""[^"]*)*"|[^"{end}\n]*)'
    row = re.compile(rf"{cell}(?:{end}{cell})*")
    width = num_quoted = 0
    all_quoted, is_evident = True, False
    for text in _join_open_quotes(lines):
        if not text:
            continue
        has_quotes, outside = '"' in text, text
        if has_quotes:
            if not row.fullmatch(text):
                return Quoting.none, 0
            outside = quoted.sub("", text)
        num_columns, is_first = outside.count(separator) + 1, not width
        if is_first:
            width = num_columns
        if num_columns != width:
            return Quoting.none, 0
        if not has_quotes:
            all_quoted = False
            continue
        cells = quoted.findall(text)
        row_quoted = not outside.strip(separator)
        all_quoted &= row_quoted
        is_evident |= (
            any(line.count(separator) + 1 != width for line in text.split("\n"))
            or any('""' in cell for cell in cells)
            or (has_header and is_first and row_quoted)
        )
        num_quoted += len(cells)
    if num_quoted and (is_evident or all_quoted):
        return Quoting.csv, 0
    return Quoting.none, num_quoted


def _join_open_quotes(lines: Iterable[str]) -> Iterator[str]:
    """Join lines as long as a quote is open at their end, up to about ``CELL_CHARS`` characters."""
    pending: list[str] = []
    is_open, size = False, 0
    for line in lines:
        if not pending and '"' not in line:
            yield line
            continue
        pending.append(line)
        size += len(line)
        is_open ^= line.count('"') % 2 == 1
        if not is_open or size > CELL_CHARS:
            yield "\n".join(pending)
            pending, is_open, size = [], False, 0
    if pending:
        yield "\n".join(pending)


def _rows(
    path: Path, lines: Iterable[Line], separator: str, quoting: Quoting
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (row number, number of its first line, cells) of each non-blank row."""
    if quoting is Quoting.none:
        for number, line in lines:
            if line:
                yield number, number, line.split(separator)
        return
    csv.field_size_limit(_FIELD_CHARS)
    # strict: otherwise the cell of an unclosed quote would contain all following lines.
    reader = csv.reader((line + "\n" for _, line in lines), delimiter=separator, strict=True)
    number = 0
    while True:
        number, first = number + 1, reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CorpusError(f"{path}: {_row_name(number, first)}: {_cause(error)}") from None
        if row and row != [""]:
            yield number, first, row


def _row_name(row: int, line: int) -> str:
    return f"row {row}" + f" (line {line})" * (row != line)


def _cause(error: csv.Error) -> str:
    """Return the message for an error of ``csv.reader``."""
    message = str(error)
    advice = "double the quotes within quoted cells, or give corpus.quoting=none if quotes are text"
    if "expected after" in message:
        return f"text follows the closing quote of a cell; {advice}"
    if "unexpected end of data" in message:
        return f"a quote begins a cell here and is never closed; {advice}"
    if "new-line character" in message:
        return "a cell without quotes holds a carriage return (CR); put the cell in quotes"
    return message


def _quoting_advice(row: list[str], quoting: Quoting) -> str:
    """Return advice about a row of the wrong length; empty if its quoting cannot be wrong."""
    if quoting is Quoting.none and any('"' in cell for cell in row):
        return ", or give corpus.quoting=csv if quoted cells hold separators or line ends"
    if quoting is Quoting.csv and any("\n" in cell for cell in row):
        return ", or give corpus.quoting=none if quotes are text"
    return ""


def _find_columns(path: Path, row: list[str], config: TextConfig) -> list[int]:
    """Return the index of each column of the settings, from the first row."""
    return [_find_column(path, row, config, key, name) for key, name in config.columns]


def _find_column(path: Path, row: list[str], config: TextConfig, key: str, name: str) -> int:
    if _has_header(config):
        if row.count(name) > 1:
            raise CorpusError(
                f"{path}: has {row.count(name)} columns {name!r} (corpus.{key}); rename all but one"
            )
        if name in row:
            return row.index(name)
        shown = ", ".join(_short(cell) for cell in row[:_SHOWN_COLUMNS]) or "an empty first line"
        shown += ", ..." * (len(row) > _SHOWN_COLUMNS)
        raise CorpusError(
            f"{path}: row 1 is read as the header and has no column {name!r}, only {shown}; give "
            f"corpus.{key}=NAME, or the number of the column if the file has no header "
            "(corpus.separator=comma|tab|semicolon|pipe sets another separator)"
        )
    if not name.isdecimal() or int(name) < 1:
        raise CorpusError(
            f"{path}: corpus.{key}={name} must be a number from 1 on, as corpus.text_column is "
            "a number"
        )
    if int(name) > len(row):
        raise CorpusError(
            f"{path}: row 1 has {len(row)} columns, corpus.{key}={name} needs {name}; "
            "corpus.separator=comma|tab|semicolon|pipe sets the separator"
        )
    return int(name) - 1


def _short(cell: str) -> str:
    # Quotes show blanks around a name.
    cell = " ".join(cell.split()) if cell == cell.strip() else repr(cell)
    return cell if len(cell) <= _SHOWN_CHARS else f"{cell[:_SHOWN_CHARS]}..."
