"""Draw charts as SVG elements that take their colors from the page, for light and dark mode.

Charts contain no names of runs: the legend is part of the page, which can draw and escape them.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from korlm.evaluation.metrics import MAX_NATS
from korlm.runs.tensorboard_events import Curve
from korlm.utils.plotting import COLORS, draw_perplexities, set_log_scale, styled, tick_label

Transform = Callable[[float], float]  # from the values of a curve to heights in the chart

MAX_POINTS = 400  # largest number of points of a curve; more are averaged

DASHES = ("", "6 3", "2 2.5")
INK, FAINT = "#010203", "#040506"  # placeholders, replaced by CSS variables of the page
STYLE = {
    **{"axes.edgecolor": FAINT, "grid.color": FAINT, "grid.alpha": 0.5, "axes.labelcolor": INK},
    **{"text.color": INK, "xtick.color": INK, "ytick.color": INK, "text.parse_math": False},
    **{"font.family": "DejaVu Sans", "svg.fonttype": "none", "svg.hashsalt": "korlm"},
}


@dataclass(frozen=True)
class LineStyle:
    """Line style of a run.

    Attributes:
        dash: SVG dash array; empty: solid.
    """

    color: str
    dash: str

    @property
    def linestyle(self) -> str | tuple[int, tuple[float, ...]]:
        """Return the dash as matplotlib's ``linestyle``."""
        return (0, tuple(map(float, self.dash.split()))) if self.dash else "-"


def line_styles(count: int) -> list[LineStyle]:
    """Return ``count`` line styles; they repeat after 24."""
    styles = [LineStyle(color, dash) for dash in DASHES for color in COLORS]
    return [styles[number % len(styles)] for number in range(count)]


def draw_curves(
    train: Sequence[Curve],
    valid: Sequence[Curve],
    learning_rates: Sequence[Curve],
    styles: Sequence[LineStyle],
    is_ngram: Sequence[bool],
) -> str:
    """Return a chart of perplexity and learning rate over optimizer steps.

    Args:
        train: training loss in nats per token of each run; all arguments have the same order.
        valid: validation loss of each run.
        learning_rates: learning rate of each run.
        styles: line style of each run.
        is_ngram: for each run, True for an n-gram model, which is drawn as a horizontal line.
    """
    with styled(**STYLE):
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        _plot_thin(left, train, styles, _perplexity)
        for losses, style, is_one in zip(valid, styles, is_ngram, strict=True):
            if not is_one:
                _plot_thick(left, [losses], [style], _perplexity)
            elif losses:
                height = _perplexity(losses[-1][1])
                left.axhline(height, color=style.color, linestyle=style.linestyle, linewidth=2.0)
        set_log_scale(left)
        left.set_title("perplexity: valid thick, train thin")
        _draw_rates(right, learning_rates, styles)
        _label_steps(left, right)
        return _svg(figure, "perplexity and learning rate over optimizer steps")


def draw_task_curves(
    metric: str,
    scores: Sequence[Curve],
    train: Sequence[Curve],
    valid: Sequence[Curve],
    learning_rates: Sequence[Curve],
    styles: Sequence[LineStyle],
) -> str:
    """Return a chart of a metric, loss and learning rate of a task over optimizer steps."""
    with styled(**STYLE):
        figure = Figure(figsize=(10, 3.4), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        _plot_thick(left, scores, styles, float)
        left.set_title(f"valid {metric}")
        _plot_thin(middle, train, styles, float)
        _plot_thick(middle, valid, styles, float)
        middle.set_title("loss in nats: valid thick, train thin")
        _draw_rates(right, learning_rates, styles)
        _label_steps(left, middle, right)
        return _svg(figure, f"{metric}, loss and learning rate over optimizer steps")


def _perplexity(nats: float) -> float:
    """Return exp(nats), or NaN, which is not drawn, if that is too large."""
    return math.exp(nats) if nats < MAX_NATS else math.nan


def _plot_thin(
    axes: Axes, curves: Sequence[Curve], styles: Sequence[LineStyle], transform: Transform
) -> None:
    for curve, style in zip(curves, styles, strict=True):
        _plot(axes, curve, style, transform, linewidth=1.0, alpha=0.45)


def _plot_thick(
    axes: Axes, curves: Sequence[Curve], styles: Sequence[LineStyle], transform: Transform
) -> None:
    for curve, style in zip(curves, styles, strict=True):
        marker = "o" if len(curve) <= 40 else ""
        _plot(axes, curve, style, transform, linewidth=2.0, marker=marker, markersize=4)


def _draw_rates(axes: Axes, curves: Sequence[Curve], styles: Sequence[LineStyle]) -> None:
    for curve, style in zip(curves, styles, strict=True):
        _plot(axes, curve, style, float, linewidth=1.5)
    axes.set_title("learning rate")
    axes.yaxis.set_major_formatter(tick_label)


def _label_steps(*all_axes: Axes) -> None:
    for axes in all_axes:
        axes.set_xlabel("optimizer step")
        axes.xaxis.set_major_formatter(tick_label)


def draw_breakdowns(
    frequency: Sequence[Mapping[str, float]],
    position: Sequence[Mapping[str, float]],
    styles: Sequence[LineStyle],
) -> str:
    """Return a chart of perplexity by the token's count in train and its position in the sentence.

    Args:
        frequency: count bin -> perplexity, for each run or evaluation mode; bins without tokens
            are missing.
        position: position bin -> perplexity, for each of them.
        styles: the line style of each.
    """
    with styled(**STYLE):
        figure = Figure(figsize=(10, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        lines = [{"color": style.color, "linestyle": style.linestyle} for style in styles]
        draw_perplexities(left, frequency, lines, "perplexity by count in train")
        draw_perplexities(right, position, lines, "perplexity by position in the sentence")
        return _svg(figure, "perplexity by count in train and by position in the sentence")


def downsample(curve: Curve) -> tuple[list[float], list[float]]:
    """Return steps and values of a curve, averaged to at most ``MAX_POINTS`` points.

    Means of losses become geometric means of perplexities.

    >>> downsample([(1, 2.0), (2, 4.0)])
    ([1.0, 2.0], [2.0, 4.0])
    """
    chunks = np.array_split(np.asarray(curve, dtype=np.float64).reshape(-1, 2), MAX_POINTS)
    means = [chunk.mean(axis=0) for chunk in chunks if len(chunk)]
    return [float(mean[0]) for mean in means], [float(mean[1]) for mean in means]


def _plot(axes: Axes, curve: Curve, style: LineStyle, transform: Transform, **options: Any) -> None:
    steps, values = downsample(curve)
    heights = list(map(transform, values))
    axes.plot(steps, heights, color=style.color, linestyle=style.linestyle, **options)


def _svg(figure: Figure, label: str) -> str:
    """Return a figure as an element of the page; ``label`` is inserted without escaping."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)  # it has external links
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # ids are not unique among charts
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    head = rf'<svg role="img" aria-label="{label}" \1>'
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', head, text, count=1)
    return text.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
