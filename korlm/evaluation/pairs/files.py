"""Read minimal pairs from TSV and CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from korlm.config import CorpusFormat, Encoding, Quoting, TextConfig
from korlm.corpus.containers import STDIN
from korlm.corpus.files import format_of, read_lines
from korlm.corpus.formats.delimited import find_quoting, find_separator
from korlm.corpus.normalization import has_text
from korlm.evaluation.pairs.templates import MinimalPair
from korlm.utils.errors import CorpusError
from korlm.utils.io.tables import unescape_tsv

COLUMNS = ("good", "bad")


def read_pairs(paths: Sequence[str]) -> list[MinimalPair]:
    """Read files with the columns ``good`` and ``bad``, and perhaps ``phenomenon``.

    Args:
        paths: TSV or CSV files in UTF-8 with a header; ``-`` is standard input, as TSV. Without a
            column ``phenomenon``, the name of the file stands for it.

    Raises:
        CorpusError: a file cannot be read, a column is missing, a row has another number of
            columns, or its sentences are blank or equal.
    """
    pairs = [pair for path in paths for pair in _read(STDIN if path == "-" else Path(path))]
    if not pairs:
        raise CorpusError(f"input: {', '.join(paths)}: no pairs, only a header")
    return pairs


def _read(path: Path) -> list[MinimalPair]:
    rows = _rows(path)
    _, header = next(rows, (1, [""]))
    if missing := [name for name in COLUMNS if name not in header]:
        raise CorpusError(
            f"{path}: no column {missing[0]}; its columns are {', '.join(header)}; good and bad "
            "are needed, separated by tabs, or by commas in FILE.csv"
        )
    pairs = []
    for number, cells in rows:
        if len(cells) != len(header):
            raise CorpusError(
                f"{path}: line {number} has {len(cells)} columns, the header {len(header)}"
            )
        row = dict(zip(header, cells, strict=True))
        good, bad = row["good"].strip(), row["bad"].strip()
        if not (has_text(good) and has_text(bad)):
            raise CorpusError(f"{path}: line {number}: a sentence is blank; remove the pair")
        if good == bad:
            raise CorpusError(f"{path}: line {number}: both sentences are equal; remove the pair")
        pairs.append(MinimalPair(row.get("phenomenon") or path.stem, good, bad))
    return pairs


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    r"""Yield the number of the line, from 1, and the cells of each row that is not blank.

    Separator and quoting of a TSV file are found as those of a corpus are. Without quoting, tabs
    and line ends within cells are written as ``\t`` and ``\n``.
    """
    lines = list(read_lines(path, Encoding.utf8))
    file_format = CorpusFormat.csv if format_of(path) is CorpusFormat.csv else CorpusFormat.tsv
    columns = TextConfig(text_column=COLUMNS[0], keep_columns=[COLUMNS[1]])
    separator = find_separator(columns, file_format, lines[0] if lines else "")
    if file_format is CorpusFormat.tsv:
        quoting, _ = find_quoting(lines, separator, has_header=True)
        if quoting is Quoting.none:
            for number, line in enumerate(lines, 1):
                if line:
                    yield number, [unescape_tsv(cell) for cell in line.split(separator)]
            return
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise CorpusError(f"{path}: line {reader.line_num}: {error}") from None
