"""Write breakdowns as TSV files.

    documents.tsv    text row doc_id num_tokens num_unk num_eojeol num_chars loss perplexity ...
    bands.tsv        text row band num_tokens token_share nats spelling_nats loss perplexity ...
    positions.tsv    text row position, then as bands.tsv

Undefined values are nan, overflows inf.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from korlm.evaluation.evaluate import EvaluationResult
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.tables import tsv_row

Results = Mapping[str, Mapping[str, EvaluationResult]]  # text -> row -> result

COUNTS = ("num_tokens", "num_unk", "num_eojeol", "num_chars")


def write_breakdowns(folder: Path, results: Results) -> None:
    """Write all three files; each is complete or absent."""
    heads = ["text", "row", "doc_id", *COUNTS, "loss", "perplexity", "bits_per_char"]
    _write(folder / "documents.tsv", heads, _documents(results))
    for key, name in (("bands", "band"), ("positions", "position")):
        rows = next(iter(results.values()))
        keys = next(iter(next(iter(rows.values())).metrics[key].values()))
        _write(folder / f"{key}.tsv", ["text", "row", name, *keys], _groups(results, key))


def _documents(results: Results) -> Iterator[list[object]]:
    for text, rows in results.items():
        for row, result in rows.items():
            sums = result.documents
            loss = sums.nats / sums.num_tokens
            with np.errstate(over="ignore"):
                ratios = [loss, np.exp(loss), sums.bits_per_char]
            columns = [*(getattr(sums, name) for name in COUNTS), *ratios]
            values = zip(*(column.tolist() for column in columns), strict=True)
            for doc_id, cells in zip(result.doc_ids, values, strict=True):
                yield [text, row, doc_id, *cells]


def _groups(results: Results, key: str) -> Iterator[list[object]]:
    for text, rows in results.items():
        for row, result in rows.items():
            for name, group in result.metrics[key].items():
                yield [text, row, name, *group.values()]


def _write(path: Path, heads: list[str], rows: Iterable[list[object]]) -> None:
    with (
        atomic_write(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="\n") as file,
    ):
        file.write(tsv_row(heads))
        for row in rows:
            file.write(tsv_row(f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row))
