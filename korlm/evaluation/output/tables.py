"""Format results of language models as tables (those of tasks: ``prediction/evaluation.py``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from korlm.config.metrics import LANGUAGE_MODELING, metric_of
from korlm.evaluation.evaluate import Metrics
from korlm.utils.io.tables import text_table

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
