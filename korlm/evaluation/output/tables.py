"""Format results of language models as tables (those of tasks: ``prediction/evaluation.py``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from korlm.evaluation.evaluate import Metrics
from korlm.utils.io.tables import aligned

FEW_UNITS = 20  # with fewer, even the expanded intervals cover less than 95 %

COLUMNS: dict[str, Callable[[Metrics], str]] = {
    "tokenizer": lambda row: str(row["tokenizer"]),
    "tokens": lambda row: f"{row['num_tokens']:,}",
    "perplexity": lambda row: f"{row['perplexity']:,.2f}",
    "change": lambda row: f"{row['change']:+.1f} %",
    "known": lambda row: f"{row['perplexity_known']:,.2f}",
    "unknown": lambda row: f"{100 * row['oov_rate']:.1f} %",
    "per eojeol": lambda row: f"{row['eojeol_perplexity']:,.4g}",
    "loss": lambda row: f"{row['loss']:.4f}",
    "bits/char": lambda row: f"{row['bits_per_char']:.4f}",
    "95 % interval": lambda row: "{:.4f} to {:.4f}".format(*row["intervals"]["bits_per_char"]),
    "tokens/s": lambda row: f"{row['tokens_per_second']:,.0f}",
}
MODE_COLUMNS = ["perplexity", "change", "loss", "bits/char", "95 % interval", "tokens/s"]
RUN_COLUMNS = [column for column in COLUMNS if column not in ("change", "loss")]


def comparison_table(rows: Mapping[str, Metrics]) -> str:
    """Format the modes of one run, with the change in perplexity from the first one."""
    first = next(iter(rows.values()))["perplexity"]
    changes = {
        name: 100 * (row["perplexity"] / first - 1) if math.isfinite(first) else math.nan
        for name, row in rows.items()
    }
    lines = _aligned_rows(
        {name: row | {"change": changes[name]} for name, row in rows.items()}, MODE_COLUMNS
    )
    # Settings come last and are not padded: they may be long.
    settings = ["settings chosen on valid", *(_settings(row["settings"]) for row in rows.values())]
    return "\n".join(f"{line}  {last}".rstrip() for line, last in zip(lines, settings, strict=True))


def runs_table(rows: Mapping[str, Metrics]) -> str:
    """Format several runs, which may have different tokenizers."""
    return "\n".join(_aligned_rows(rows, RUN_COLUMNS))


def _aligned_rows(rows: Mapping[str, Metrics], columns: Sequence[str]) -> list[str]:
    cells = [[name, *(COLUMNS[column](row) for column in columns)] for name, row in rows.items()]
    return aligned([["", *columns], *cells])


def paired_test_table(rows: Mapping[str, Metrics]) -> str:
    """Format the difference of each row from the first one, with interval and p-value."""
    first, *others = rows
    cells = [[f"against {first}", "bits/char", "95 % interval", "p", "loss", "95 % interval"]]
    for name in others:
        test = rows[name]["against"]
        bits, loss = _difference(test["bits_per_char"]), _difference(test.get("loss"))
        cells.append([name, *bits, f"{test['p']:.4f}", *loss])
    return "\n".join(aligned(cells))


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
    return "\n".join(aligned(cells))


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
