"""Read minimal pairs from TSV files."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from korlm.config import Encoding
from korlm.corpus.containers import STDIN
from korlm.corpus.files import read_blocks
from korlm.corpus.normalization import has_text
from korlm.evaluation.pairs.templates import MinimalPair
from korlm.utils.errors import CorpusError
from korlm.utils.io.tables import unescape_tsv

COLUMNS = ("good", "bad")


def read_pairs(paths: Sequence[str]) -> list[MinimalPair]:
    """Read files with the columns ``good`` and ``bad``, and perhaps ``phenomenon``.

    Args:
        paths: TSV files in UTF-8 with a header; ``-`` is standard input. Without a column
            ``phenomenon``, the name of the file stands for it.

    Raises:
        CorpusError: a file cannot be read, a column is missing, a row has another number of
            columns, or its sentences are blank or equal.
    """
    pairs = [pair for path in paths for pair in _read(STDIN if path == "-" else Path(path))]
    if not pairs:
        raise CorpusError(f"input: {', '.join(paths)}: no pairs, only a header")
    return pairs


def _read(path: Path) -> list[MinimalPair]:
    lines = itertools.chain.from_iterable(read_blocks(path, Encoding.utf8))
    header = next(lines, "").split("\t")
    if missing := [name for name in COLUMNS if name not in header]:
        raise CorpusError(
            f"{path}: no column {missing[0]}; its columns are {', '.join(header)}; good and bad "
            "are needed, separated by tabs"
        )
    pairs = []
    for number, line in enumerate(lines, 2):
        if not line:
            continue
        cells = [unescape_tsv(cell) for cell in line.split("\t")]
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
