"""A picture of the breakdowns, as PNG: drawn without a screen, in a font that has the letters."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from korlm.evaluation.breakdown import FREQUENCY_BINS, POSITIONS
from korlm.evaluation.evaluate import EvaluationResult, Figures
from korlm.utils.plotting import COLORS, labels, save, styled

logger = logging.getLogger(__name__)


MAX_LINES = 8  # beyond it only what was read as it was trained, and no more than there are colours


MAX_NAMED = 24  # documents that are named one by one


BAND_LABELS = {
    **{"0": "unknown", "1": "1", "2-9": "2–9", "10-99": "10–99", "100-999": "100–\n999"},
    **{"1000-9999": "1,000–\n9,999", "10000+": "10,000+"},
}


WIDE = {"21-30": 24, "31-50": 28, "51+": 32}  # where groups of places are drawn


def draw_breakdown(
    path: Path, text: str, rows: Mapping[str, EvaluationResult], figures: Mapping[str, Figures]
) -> None:
    """Draws what each row takes: in all, by document, by frequency and by place in the sentence.

    Args:
        path: of the PNG.
        text: its name.
        rows: what was judged on it.
        figures: of the same rows, with their intervals.
    """
    with styled():
        names = dict(zip(rows, labels(list(rows), "row"), strict=True))
        figure = Figure(figsize=(12, 7.5 + 0.2 * max(len(rows) - 8, 0)), layout="constrained")
        halves: Any = figure.subfigures(2, 1)  # each with margins of its own
        top, bottom = halves[0].subplots(1, 2), halves[1].subplots(1, 3)
        shown = _shown(rows)
        colors = {row: COLORS[at % len(COLORS)] for at, row in enumerate(shown)}
        _draw_intervals(top[0], figures, names, colors)
        _draw_units(top[1], {row: rows[row] for row in shown}, colors)
        _draw_bands(bottom[0], figures, colors)
        first, found = next(iter(figures.items()))
        _draw_shares(bottom[1], found, names[first])
        _draw_positions(bottom[2], figures, colors)
        shown_names = [names[row] for row in shown]
        figure.legend(
            bottom[0].get_lines(), shown_names, loc="outside lower center", ncols=8, frameon=False
        )
        (title,) = labels([text], "text")
        size = f"{found['num_chars']:,} characters, {found['num_eojeol']:,} eojeol"
        figure.suptitle(f"{title}: {size}", x=0.01, ha="left", fontsize=12, weight="bold")
        save(figure, path)


def _shown(rows: Mapping[str, EvaluationResult]) -> list[str]:
    """The rows that get a line."""
    if len(rows) <= MAX_LINES:
        return list(rows)
    trained = [row for row, judged in rows.items() if judged.as_trained]
    if len(trained) > MAX_LINES:
        logger.info("the picture shows the breakdowns of the first %d rows", MAX_LINES)
    return trained[:MAX_LINES]


def _draw_intervals(
    axes: Axes, figures: Mapping[str, Figures], names: Mapping[str, str], colors: Mapping[str, str]
) -> None:
    """A dot for each row, with its interval."""
    for place, (row, found) in enumerate(figures.items()):
        bits, (low, high) = found["bits_per_char"], found["intervals"]["bits_per_char"]
        color = colors.get(row, COLORS[-1])
        if not np.isfinite(bits):
            continue
        axes.plot([low, high], [place, place], color=color, linewidth=2.5, alpha=0.55)
        axes.plot([bits], [place], "o", color=color, markersize=6)
        axes.annotate(
            f"{bits:.3f}", (bits, place), (0, 5), textcoords="offset points", ha="center",
            fontsize=8, color=color,
        )  # fmt: skip
    unit = next(iter(figures.values()))["intervals"]["unit"]
    axes.set_yticks(range(len(names)), list(names.values()))
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    axes.set_title(f"bits per character, with 95 % interval over {unit}s")


def _draw_units(
    axes: Axes, rows: Mapping[str, EvaluationResult], colors: Mapping[str, str]
) -> None:
    """Bits per character of each document by its name, or how they spread if they are many."""
    first = next(iter(rows.values()))
    found = {row: judged.units().bits_per_char for row, judged in rows.items()}
    found = {row: np.where(np.isfinite(bits), bits, np.nan) for row, bits in found.items()}
    num_units = len(first.units().nats)
    axes.set_title(f"bits per character of single {first.unit}s")
    if first.unit == "document" and num_units <= MAX_NAMED:
        for row, bits in found.items():
            axes.plot(bits, range(num_units), "o", color=colors[row], markersize=5, alpha=0.8)
        size = min(9.0, 180 / num_units)
        axes.set_yticks(range(num_units), labels(first.doc_ids, "document"), fontsize=size)
        axes.set_ylim(num_units - 0.5, -0.5)
        return
    for row, bits in found.items():
        bits = np.sort(bits[np.isfinite(bits)])
        axes.plot(bits, np.linspace(0, 1, len(bits)), color=colors[row], linewidth=1.5)
    every = np.concatenate(list(found.values()))
    if np.isfinite(every).any():
        low, high = np.nanquantile(every, [0.002, 0.99])
        axes.set_xlim(low, high if high > low else low + 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel(f"of {num_units:,} {first.unit}s, at most so many bits")


def _draw_bands(axes: Axes, figures: Mapping[str, Figures], colors: Mapping[str, str]) -> None:
    """Perplexity by how often the token stands in train."""
    bands = _filled(figures.values(), "bands", FREQUENCY_BINS)
    for row, color in colors.items():
        axes.plot(
            range(len(bands)), _perplexities(figures[row], "bands", bands), "o-", color=color,
            linewidth=1.5, markersize=4,
        )  # fmt: skip
    axes.set_xticks(range(len(bands)), [BAND_LABELS[band] for band in bands], fontsize=8)
    _logarithmic(axes)
    axes.set_title("perplexity by count in train")


def _draw_shares(axes: Axes, first: Figures, name: str) -> None:
    """How much of the text each band is, and how much of what it costs."""
    bands = _filled([first], "bands", FREQUENCY_BINS)
    kinds = (("token_share", "of tokens", "#c9c7c1"), ("nats_share", "of all nats", COLORS[0]))
    for at, (key, label, color) in enumerate(kinds):
        heights = [first["bands"][band][key] for band in bands]
        places = np.arange(len(bands)) + 0.4 * at - 0.2
        axes.bar(places, np.nan_to_num(heights), 0.38, color=color, label=label)
    axes.set_xticks(range(len(bands)), [BAND_LABELS[band] for band in bands], fontsize=8)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(f"shares of the bands: {name}")


def _draw_positions(axes: Axes, figures: Mapping[str, Figures], colors: Mapping[str, str]) -> None:
    """Perplexity by place in the sentence."""
    places = _filled(figures.values(), "positions", POSITIONS)
    at = [WIDE.get(place) or int(place) for place in places]
    for row, color in colors.items():
        perplexities = _perplexities(figures[row], "positions", places)
        axes.plot(at, perplexities, "-", color=color, linewidth=1.5)
    told = [place for place in places if place in WIDE or place in ("1", "5", "10", "15", "20")]
    labels = [place.replace("-", "–") for place in told]
    axes.set_xticks([at[places.index(place)] for place in told], labels, fontsize=8)
    _logarithmic(axes)
    axes.set_title("perplexity by place in the sentence")


def _filled(figures: Iterable[Figures], key: str, names: Iterable[str]) -> list[str]:
    """The groups in which there is a token."""
    rows = [row[key] for row in figures]
    return [name for name in names if any(row[name]["num_tokens"] for row in rows)]


def _perplexities(figures: Figures, key: str, groups: Sequence[str]) -> list[float]:
    found = [figures[key][group]["perplexity"] for group in groups]
    return [value if np.isfinite(value) else np.nan for value in found]


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    steps = (1, 2, 5) if high / low < 100 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
