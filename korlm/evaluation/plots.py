"""Plot breakdowns (PNG): bits per character, documents, token frequency and position."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from korlm.evaluation.evaluate import EvaluationResult, Metrics
from korlm.utils.plotting import (
    COLORS,
    LIGHT_GRAY,
    bin_label,
    draw_perplexities,
    labels,
    save,
    styled,
)

logger = logging.getLogger(__name__)

MAX_LINES = 8  # with more rows, breakdowns show only the modes that runs were trained in
MAX_NAMED = 24  # documents on an axis of their own names; more are shown as a distribution


def draw_breakdown(
    path: Path, text: str, rows: Mapping[str, EvaluationResult], metrics: Mapping[str, Metrics]
) -> None:
    """Draw the metrics and breakdowns of all rows on a text.

    ``metrics`` are those of the same rows, with confidence intervals.
    """
    with styled():
        names = dict(zip(rows, labels(list(rows), "row"), strict=True))
        figure = Figure(figsize=(12, 7.5 + 0.2 * max(len(rows) - 8, 0)), layout="constrained")
        halves: Any = figure.subfigures(2, 1)  # so that each half has its own margins
        top, bottom = halves[0].subplots(1, 2), halves[1].subplots(1, 3)
        shown = _shown(rows)
        colors = {row: COLORS[index % len(COLORS)] for index, row in enumerate(shown)}
        _draw_intervals(top[0], metrics, names, colors)
        _draw_units(top[1], {row: rows[row] for row in shown}, colors)
        lines = [{"color": color} for color in colors.values()]
        charts = (
            (bottom[0], "bands", "perplexity by count in train"),
            (bottom[2], "positions", "perplexity by position in the sentence"),
        )
        for axes, key, chart_title in charts:
            drawn = [_perplexities(metrics[row], key) for row in shown]
            draw_perplexities(axes, drawn, lines, chart_title)
        first, row_metrics = next(iter(metrics.items()))
        _draw_shares(bottom[1], row_metrics, names[first])
        shown_names = [names[row] for row in shown]
        figure.legend(
            bottom[0].get_lines(), shown_names, loc="outside lower center", ncols=8, frameon=False
        )
        (title,) = labels([text], "text")
        size = f"{row_metrics['num_chars']:,} characters, {row_metrics['num_eojeol']:,} eojeol"
        figure.suptitle(f"{title}: {size}", x=0.01, ha="left", fontsize=12, weight="bold")
        save(figure, path)


def _shown(rows: Mapping[str, EvaluationResult]) -> list[str]:
    """Return the rows that are drawn in the breakdowns."""
    if len(rows) <= MAX_LINES:
        return list(rows)
    trained = [row for row, result in rows.items() if result.as_trained]
    if len(trained) > MAX_LINES:
        logger.info("the plot shows the breakdowns of the first %d rows", MAX_LINES)
    return trained[:MAX_LINES]


def _draw_intervals(
    axes: Axes, metrics: Mapping[str, Metrics], names: Mapping[str, str], colors: Mapping[str, str]
) -> None:
    """Draw bits per character of each row with its confidence interval."""
    for y, (row, row_metrics) in enumerate(metrics.items()):
        bits = row_metrics["bits_per_char"]
        low, high = row_metrics["intervals"]["bits_per_char"]
        color = colors.get(row, COLORS[-1])
        if not np.isfinite(bits):
            continue
        axes.plot([low, high], [y, y], color=color, linewidth=2.5, alpha=0.55)
        axes.plot([bits], [y], "o", color=color, markersize=6)
        axes.annotate(
            f"{bits:.3f}", (bits, y), (0, 5), textcoords="offset points", ha="center",
            fontsize=8, color=color,
        )  # fmt: skip
    unit = next(iter(metrics.values()))["intervals"]["unit"]
    axes.set_yticks(range(len(names)), list(names.values()))
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    axes.set_title(f"bits per character, with 95 % interval over {unit}s")


def _draw_units(
    axes: Axes, rows: Mapping[str, EvaluationResult], colors: Mapping[str, str]
) -> None:
    """Draw bits per character of each document, or their distribution if there are many."""
    first = next(iter(rows.values()))
    columns = {row: result.units().bits_per_char for row, result in rows.items()}
    columns = {row: np.where(np.isfinite(bits), bits, np.nan) for row, bits in columns.items()}
    num_units = len(first.units().nats)
    axes.set_title(f"bits per character of single {first.resampled_unit}s")
    if first.resampled_unit == "document" and num_units <= MAX_NAMED:
        for row, bits in columns.items():
            axes.plot(bits, range(num_units), "o", color=colors[row], markersize=5, alpha=0.8)
        size = min(9.0, 180 / num_units)
        axes.set_yticks(range(num_units), labels(first.doc_ids, "document"), fontsize=size)
        axes.set_ylim(num_units - 0.5, -0.5)
        return
    for row, bits in columns.items():
        bits = np.sort(bits[np.isfinite(bits)])
        axes.plot(bits, np.linspace(0, 1, len(bits)), color=colors[row], linewidth=1.5)
    all_bits = np.concatenate(list(columns.values()))
    if np.isfinite(all_bits).any():
        low, high = np.nanquantile(all_bits, [0.002, 0.99])
        axes.set_xlim(low, high if high > low else low + 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel(f"share of {num_units:,} {first.resampled_unit}s with at most so many bits")


def _draw_shares(axes: Axes, row_metrics: Metrics, name: str) -> None:
    """Draw the share of each frequency bin in tokens and in nats."""
    bins = [name for name, part in row_metrics["bands"].items() if part["num_tokens"]]
    kinds = (("token_share", "of tokens", LIGHT_GRAY), ("nats_share", "of all nats", COLORS[0]))
    for index, (key, label, color) in enumerate(kinds):
        heights = [row_metrics["bands"][name][key] for name in bins]
        x = np.arange(len(bins)) + 0.4 * index - 0.2
        axes.bar(x, np.nan_to_num(heights), 0.38, color=color, label=label)
    axes.set_xticks(range(len(bins)), map(bin_label, bins), fontsize=7)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(f"shares by count in train: {name}")


def _perplexities(row: Metrics, key: str) -> dict[str, float]:
    """Return bin -> perplexity of the bins that contain tokens."""
    return {name: part["perplexity"] for name, part in row[key].items() if part["num_tokens"]}
