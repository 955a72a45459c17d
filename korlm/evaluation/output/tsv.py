"""Breakdowns as TSV files, which open as they are with pandas, a spreadsheet or a plot program.

    documents.tsv    text row doc_id num_tokens num_unk num_eojeol num_chars loss perplexity ...
    bands.tsv        text row band num_tokens token_share nats spelling_nats loss perplexity ...
    positions.tsv    text row position, then as bands.tsv

A figure that is not defined is nan; one beyond all floats is inf.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from korlm.evaluation.evaluate import EvaluationResult
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.tables import tsv_cell

Found = Mapping[str, Mapping[str, EvaluationResult]]  # text -> row


COUNTS = ("num_tokens", "num_unk", "num_eojeol", "num_chars")


def write_breakdowns(folder: Path, found: Found) -> None:
    """Writes all three, each whole or not at all."""
    heads = ["text", "row", "doc_id", *COUNTS, "loss", "perplexity", "bits_per_char"]
    _write(folder / "documents.tsv", heads, _documents(found))
    for key, name in (("bands", "band"), ("positions", "position")):
        rows = next(iter(found.values()))
        keys = next(iter(next(iter(rows.values())).figures[key].values()))
        _write(folder / f"{key}.tsv", ["text", "row", name, *keys], _groups(found, key))


def _documents(found: Found) -> Iterator[list[object]]:
    for text, rows in found.items():
        for row, judged in rows.items():
            sums = judged.documents
            loss = sums.nats / sums.num_tokens
            with np.errstate(over="ignore"):
                figures = [loss, np.exp(loss), sums.bits_per_char]
            columns = [*(getattr(sums, name) for name in COUNTS), *figures]
            values = zip(*(column.tolist() for column in columns), strict=True)
            for doc_id, line in zip(judged.doc_ids, values, strict=True):
                yield [text, row, doc_id, *line]


def _groups(found: Found, key: str) -> Iterator[list[object]]:
    for text, rows in found.items():
        for row, judged in rows.items():
            for name, group in judged.figures[key].items():
                yield [text, row, name, *group.values()]


def _write(path: Path, heads: list[str], lines: Iterable[list[object]]) -> None:
    with (
        atomic_write(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="\n") as file,
    ):
        file.write("\t".join(heads) + "\n")
        for line in lines:
            cells = (f"{c:.6g}" if isinstance(c, float) else tsv_cell(c) for c in line)
            file.write("\t".join(cells) + "\n")
