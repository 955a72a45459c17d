"""Format results of language models as tables, and write breakdowns as TSV files.

    documents.tsv    text row doc_id num_tokens num_unk num_eojeol num_chars loss perplexity ...
    bands.tsv        text row band num_tokens token_share nats spelling_nats loss perplexity ...
    positions.tsv    text row position, then as bands.tsv

Undefined values are nan, overflows inf. The tables of tasks: ``prediction/evaluation.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from korlm.config.metrics import LANGUAGE_MODELING, metric_of
from korlm.evaluation.evaluate import EvaluationResult, Metrics
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.tables import text_table, tsv_row

INTERVAL = "95 % interval"
FEW_UNITS = 20  # with fewer, even the expanded intervals cover less than 95 %

RUN_COLUMNS = (
    *("tokenizer", "num_tokens", "perplexity", "perplexity_known", "oov_rate"),
    *("eojeol_perplexity", "bits_per_char", INTERVAL, "tokens_per_second"),
)
MODE_COLUMNS = ("perplexity", "change", "loss", "bits_per_char", INTERVAL, "tokens_per_second")


def comparison_table(rows: Mapping[str, Metrics]) -> str:
    """Format the modes of one run, with the change in perplexity from the first one."""
    first = next(iter(rows.values()))["perplexity"]
    changes = (
        100 * (row["perplexity"] / first - 1) if math.isfinite(first) else math.nan
        for row in rows.values()
    )
    changed = zip(rows.items(), changes, strict=True)
    shown = {name: row | {"change": f"{change:+.1f} %"} for (name, row), change in changed}
    cells = _cells(shown, MODE_COLUMNS)
    settings = ["settings chosen on valid", *(_settings(row["settings"]) for row in rows.values())]
    cells = [[*row, last] for row, last in zip(cells, settings, strict=True)]
    return text_table(cells, left=(0, len(cells[0]) - 1))


def runs_table(rows: Mapping[str, Metrics]) -> str:
    """Format several runs, which may have different tokenizers."""
    return text_table(_cells(rows, RUN_COLUMNS))


def _cells(rows: Mapping[str, Metrics], columns: Sequence[str]) -> list[list[str]]:
    """Return a header and a row for each result; columns are metrics or other entries of it."""
    metrics = [metric_of(key, LANGUAGE_MODELING) for key in columns]
    cells = [["", *(metric.title for metric in metrics)]]
    for name, row in rows.items():
        low, high = row["intervals"]["bits_per_char"]
        values = row | {INTERVAL: f"{low:.4f} to {high:.4f}"}
        shown = (
            values[m.key] if isinstance(values[m.key], str) else m.shown(values[m.key])
            for m in metrics
        )
        cells.append([name, *shown])
    return cells


def paired_test_table(rows: Mapping[str, Metrics]) -> str:
    """Format the difference of each row from the first one, with interval and p-value."""
    first, *others = rows
    cells = [[f"against {first}", "bits/char", INTERVAL, "p", "loss", INTERVAL]]
    for name in others:
        test = rows[name]["against"]
        bits, loss = _difference(test["bits_per_char"]), _difference(test.get("loss"))
        cells.append([name, *bits, f"{test['p']:.4f}", *loss])
    return text_table(cells)


def _difference(part: Mapping[str, Any] | None) -> list[str]:
    """Format a difference and its interval.

    None: the runs have different tokens, so that losses are not comparable.
    """
    if part is None:
        return ["", ""]
    low, high = part["interval"]
    return [f"{part['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}"]


def frequency_table(row: Metrics) -> str:
    """Format the loss by training frequency of the token."""
    cells = [["times in train", "tokens", "perplexity", "of all nats"]]
    for name, part in row["bands"].items():
        if part["num_tokens"]:
            cells.append(
                [
                    "0 (unknown)" if name == "0" else name,
                    f"{100 * part['token_share']:.1f} %",
                    f"{part['perplexity']:,.2f}",
                    f"{100 * part['nats_share']:.1f} %",
                ]
            )
    return text_table(cells)


def interval_note(row: Metrics) -> str:
    """Describe how the intervals were computed, with a warning if they are too narrow."""
    info = row["intervals"]
    unit, number = info["unit"], info["num_units"]
    blocks = f"blocks of {info['block']} " if info["block"] > 1 else ""
    note = f"intervals: {info['samples']:,} resamples of {number:,} {blocks}{unit}s"
    if number < 2:
        note += "; a single unit has no interval"
    elif unit == "sentence" and not blocks:
        note += "; sentences of one document are not independent: probably too narrow"
    elif number < FEW_UNITS:
        note += "; few units: probably too narrow"
    return note


def _settings(settings: Mapping[str, Any]) -> str:
    """Format ``{"flatness": 0.4, "weights": {"model": 0.7, "cache": 0.3}}`` on one line."""
    cells = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            cells.append(" + ".join(f"{weight:.3g} {part}" for part, weight in value.items()))
        else:
            cells.append(f"{key}={value:g}")
    return ", ".join(cells)


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
