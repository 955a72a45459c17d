"""Plots of a corpus: frequency against rank, and unknown words against vocabulary size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from korlm.dataset.statistics.scan import Ints, Statistics
from korlm.utils.plotting import COLORS, GRAY, labels, save, styled, tick_label

NAMED_RANKS = (1, 10, 100, 1000, 10_000, 100_000)
NAMED_MIN_FREQS = (1, 2, 5)
MAX_POINTS = 2000  # of the curve of ranks


def draw_frequencies(path: Path, statistics: Statistics, frequencies: Ints) -> None:
    """Draw the results of ``collect`` into a PNG file."""
    with styled():
        figure = Figure(figsize=(12, 5), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_ranks(left, statistics, frequencies)
        _draw_unknown(right, statistics)
        save(figure, path)


def _draw_ranks(axes: Axes, statistics: Statistics, frequencies: Ints) -> None:
    last = len(frequencies)
    ranks = np.unique(np.geomspace(1, last, MAX_POINTS).round().astype(np.int64))
    axes.loglog(ranks, frequencies[ranks - 1], color=COLORS[0], linewidth=2, label="train")
    if (zipf := statistics["zipf"]) is not None:
        ends = np.array([1, last])
        axes.loglog(
            ends, zipf["scale"] * ends ** zipf["slope"], "--", color=COLORS[1], linewidth=1.2,
            label=f"fitted: rank to the power of {zipf['slope']:.2f}",
        )  # fmt: skip
    named = [row for row in statistics["ranks"] if row["rank"] in NAMED_RANKS]
    for row, name in zip(named, labels([row["morph"] for row in named], "morph"), strict=True):
        point = (row["rank"], row["count"])
        axes.annotate(name, point, (6, 5), textcoords="offset points", color=GRAY)
    _thousands(axes)
    axes.yaxis.set_major_formatter(tick_label)
    axes.set_xlabel("rank")
    axes.set_title(f"frequency of {last:,} different morphs")
    axes.legend(frameon=False)


def _draw_unknown(axes: Axes, statistics: Statistics) -> None:
    unknown = statistics["unknown"]
    rows, chosen = unknown["by_size"], unknown["chosen"]
    axes.semilogx(
        [row["size"] for row in rows], [row["rate"] for row in rows], "o-", color=COLORS[0],
        linewidth=1.5, markersize=4, label="the most frequent morphs of train",
    )  # fmt: skip
    axes.plot(
        chosen["size"], chosen["rate"], "D", color=COLORS[1], markersize=8,
        label=f"this vocabulary: {chosen['size']:,} morphs, {100 * chosen['rate']:.2f} %",
    )  # fmt: skip
    for row in unknown["by_min_freq"]:
        if row["min_freq"] in NAMED_MIN_FREQS:
            axes.annotate(
                f"{row['min_freq']}×", (row["size"], row["rate"]), (0, 9), ha="center",
                textcoords="offset points", color=GRAY,
            )  # fmt: skip
    _thousands(axes)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    axes.set_xlabel("size of the vocabulary (n×: vocab.min_freq=n)")
    axes.set_title(f"unknown tokens in {unknown['split']}")
    axes.legend(frameon=False)


def _thousands(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(tick_label)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
