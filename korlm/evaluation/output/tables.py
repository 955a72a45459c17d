"""Figures as tables that people read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from korlm.evaluation.evaluate import Figures
from korlm.utils.io.tables import aligned

FEW_UNITS = 20  # below it even the wider intervals cover less than they say


def comparison_table(rows: Mapping[str, Figures]) -> str:
    """A line for each way to use one model, changes in perplexity counted from the first."""
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
    told = ["settings chosen on valid", *(_told(row["settings"]) for row in rows.values())]
    lines = zip(aligned(cells), told, strict=True)
    return "\n".join(f"{line}  {settings}".rstrip() for line, settings in lines)


def runs_table(rows: Mapping[str, Figures]) -> str:
    """A line for each run and way to read."""
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


def paired_test_table(rows: Mapping[str, Figures]) -> str:
    """How each way differs from the first, and how sure that is."""
    first, *others = rows
    cells = [[f"against {first}", "bits/char", "95 % interval", "p", "loss", "95 % interval"]]
    for name in others:
        test = rows[name]["against"]
        found = [name]
        for key in ("bits_per_char", "loss"):
            part = test.get(key)
            if part is None:  # other tokens: a loss per token says nothing
                found += ["", ""]
                continue
            low, high = part["interval"]
            found += [f"{part['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}"]
            if key == "bits_per_char":
                found.append(f"{test['p']:.4f}")
        cells.append(found)
    return "\n".join(aligned(cells))


def bands_table(row: Figures) -> str:
    """What tokens cost by how often they stand in train."""
    cells = [["times in train", "tokens", "perplexity", "of all nats"]]
    for band, part in row["bands"].items():
        if part["num_tokens"]:
            cells.append(
                [
                    "0 (unknown)" if band == "0" else band,
                    f"{100 * part['token_share']:.1f} %",
                    f"{part['perplexity']:,.2f}",
                    f"{100 * part['nats_share']:.1f} %",
                ]
            )
    return "\n".join(aligned(cells))


def interval_note(row: Figures) -> str:
    """What the intervals stand on, and what is wrong with it."""
    found = row["intervals"]
    unit, number = found["unit"], found["num_units"]
    blocks = f"blocks of {found['block']} " if found["block"] > 1 else ""
    told = f"intervals: {found['samples']:,} draws of {number:,} {blocks}{unit}s"
    if unit == "sentence" and not blocks:
        told += "; they are one document, whose sentences lean on each other: rather too narrow"
    elif number < FEW_UNITS:
        told += "; so few: rather too narrow"
    return told


def _interval(ends: Sequence[float]) -> str:
    low, high = ends
    return f"{low:.4f} to {high:.4f}"


def _told(settings: Mapping[str, Any]) -> str:
    """``{"theta": 0.4, "weights": {"model": 0.7, "cache": 0.3}}`` in one line."""
    words = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            words.append(" + ".join(f"{weight:.3g} {part}" for part, weight in value.items()))
        else:
            words.append(f"{key}={value:g}")
    return ", ".join(words)
