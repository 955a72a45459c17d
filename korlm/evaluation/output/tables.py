"""Evaluation results as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from korlm.evaluation.evaluate import Metrics
from korlm.utils.io.tables import aligned

FEW_UNITS = 20  # with fewer, even the expanded intervals cover less than 95 %


def comparison_table(rows: Mapping[str, Metrics]) -> str:
    """Format the modes of one run, with the change in perplexity from the first one."""
    first = next(iter(rows.values()))["perplexity"]
    cells = [["", "perplexity", "change", "loss", "bits/char", "95 % interval", "tokens/s"]]
    for name, row in rows.items():
        change = 100 * (row["perplexity"] / first - 1) if math.isfinite(first) else math.nan
        cells.append(
            [
                name,
                f"{row['perplexity']:,.2f}",
                f"{change:+.1f} %",
                f"{row['loss']:.4f}",
                f"{row['bits_per_char']:.4f}",
                _interval(row["intervals"]["bits_per_char"]),
                f"{row['tokens_per_second']:,.0f}",
            ]
        )
    # Settings come last and are not padded: they may be long.
    settings = ["settings chosen on valid", *(_settings(row["settings"]) for row in rows.values())]
    lines = zip(aligned(cells), settings, strict=True)
    return "\n".join(f"{line}  {last}".rstrip() for line, last in lines)


def runs_table(rows: Mapping[str, Metrics]) -> str:
    """Format several runs, which may have different tokenizers."""
    heads = ["tokenizer", "tokens", "perplexity", "known", "unknown", "per eojeol"]
    cells = [["", *heads, "bits/char", "95 % interval", "tokens/s"]]
    for name, row in rows.items():
        cells.append(
            [
                name,
                row["tokenizer"],
                f"{row['num_tokens']:,}",
                f"{row['perplexity']:,.2f}",
                f"{row['perplexity_known']:,.2f}",
                f"{100 * row['oov_rate']:.1f} %",
                f"{row['eojeol_perplexity']:,.4g}",
                f"{row['bits_per_char']:.4f}",
                _interval(row["intervals"]["bits_per_char"]),
                f"{row['tokens_per_second']:,.0f}",
            ]
        )
    return "\n".join(aligned(cells))


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
    """Format a difference and its interval; None: losses of different tokens."""
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
    if unit == "sentence" and not blocks:
        note += "; sentences of one document are not independent: probably too narrow"
    elif number < FEW_UNITS:
        note += "; few units: probably too narrow"
    return note


def _interval(ends: Sequence[float]) -> str:
    low, high = ends
    return f"{low:.4f} to {high:.4f}"


def _settings(settings: Mapping[str, Any]) -> str:
    """Format ``{"theta": 0.4, "weights": {"model": 0.7, "cache": 0.3}}`` on one line."""
    cells = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            cells.append(" + ".join(f"{weight:.3g} {part}" for part, weight in value.items()))
        else:
            cells.append(f"{key}={value:g}")
    return ", ".join(cells)
