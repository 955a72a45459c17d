"""Curves and breakdowns as SVG that takes its ink from the page, and so suits light and dark.

No name of a run stands in a picture: colours and dashes are told in the page's own legend, which
needs no fonts here and no escaping there.
"""

from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from korlm.evaluation.metrics import MAX_NATS
from korlm.reporting.tensorboard_events import Curve

MAX_POINTS = 400  # of a curve; more are averaged, since nobody sees them


# Told apart by all kinds of eyes, on white as on black (after Okabe and Ito 2008).
COLORS = ("#0b84c6", "#e07b00", "#119c6d", "#d1478f", "#8f6be0", "#a8872a", "#d6493d", "#5d8aa0")


DASHES = ("", "6 3", "2 2.5")


INK, FAINT = "#010203", "#040506"  # stand for colours of the page


STYLE = {
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT},
    **{"axes.grid": True, "grid.color": FAINT, "grid.alpha": 0.5, "grid.linewidth": 0.6},
    **{"axes.axisbelow": True, "font.size": 9.0, "font.family": "DejaVu Sans"},
    **{"axes.titlesize": 10.0, "axes.titlelocation": "left", "axes.titleweight": "bold"},
    **{"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK},
    **{"svg.fonttype": "none", "svg.hashsalt": "korlm", "text.parse_math": False},
}


@dataclass(frozen=True)
class LineStyle:
    """How the line of a run is drawn.

    Attributes:
        color: as HTML has it.
        dash: lengths of stroke and gap; empty: unbroken.
    """

    color: str
    dash: str

    @property
    def style(self) -> str | tuple[int, tuple[float, ...]]:
        """As matplotlib has it."""
        return (0, tuple(map(float, self.dash.split()))) if self.dash else "-"


def pens(count: int) -> list[LineStyle]:
    """One for each line: colours first, then dashes; beyond 24 they come again."""
    kinds = [LineStyle(color, dash) for dash in DASHES for color in COLORS]
    return [kinds[at % len(kinds)] for at in range(count)]


def draw_curves(
    train: Sequence[Curve],
    valid: Sequence[Curve],
    rates: Sequence[Curve],
    drawn: Sequence[LineStyle],
    counted: Sequence[bool],
) -> str:
    """Perplexity and learning rate over optimizer steps, a line for each run.

    Args:
        train: loss in nats per token, for each run.
        valid: the same.
        rates: learning rates.
        drawn: a pen for each run.
        counted: whether it is an n-gram model: a level line across the picture.
    """
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        for losses, pen in zip(train, drawn, strict=True):
            _plot(left, losses, pen, math.exp, linewidth=1.0, alpha=0.45)
        for losses, pen, is_level in zip(valid, drawn, counted, strict=True):
            if is_level:
                if losses and losses[-1][1] < MAX_NATS:
                    height = math.exp(losses[-1][1])
                    left.axhline(height, color=pen.color, linestyle=pen.style, linewidth=2.0)
                continue
            marker = "o" if len(losses) <= 40 else ""
            _plot(left, losses, pen, math.exp, linewidth=2.0, marker=marker, markersize=4)
        _logarithmic(left)
        left.set_title("perplexity: valid thick, train thin")
        for curve, pen in zip(rates, drawn, strict=True):
            _plot(right, curve, pen, float, linewidth=1.5)
        right.set_title("learning rate")
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        for axes in (left, right):
            axes.set_xlabel("optimizer step")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        return _svg(figure, "perplexity and learning rate over optimizer steps")


def draw_groups(
    bands: Sequence[Mapping[str, float]],
    places: Sequence[Mapping[str, float]],
    drawn: Sequence[LineStyle],
) -> str:
    """Perplexity by how often a token stands in train, and by its place in the sentence.

    Args:
        bands: group -> perplexity, for each line; not finite where there is none.
        places: the same.
        drawn: a pen for each line.
    """
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(10, 3.5), layout="constrained")
        titles = ("perplexity by count in train", "perplexity by place in the sentence")
        for axes, lines, title in zip(figure.subplots(1, 2), (bands, places), titles, strict=True):
            names = list(dict.fromkeys(name for line in lines for name in line))
            for line, pen in zip(lines, drawn, strict=True):
                values = [line.get(name, math.nan) for name in names]
                finite = [value if 0 < value < math.inf else math.nan for value in values]
                axes.plot(
                    range(len(names)), finite, color=pen.color, linestyle=pen.style,
                    linewidth=1.6, marker="o", markersize=3,
                )  # fmt: skip
            told = [at for at in range(len(names)) if len(names) < 9 or at in (0, 4, 9, 14, 19, 22)]
            axes.set_xticks(told, [_band(names[at]) for at in told], fontsize=8)
            _logarithmic(axes)
            axes.set_title(title)
        return _svg(figure, "perplexity by count in train and by place in the sentence")


def _band(name: str) -> str:
    """A group's name as people write it; only digits and signs, whatever a file says."""
    if name == "0":
        return "unknown"
    parts = [f"{int(part):,}" for part in re.findall(r"\d{1,9}", name)[:2]]
    return "–".join(parts) + "+" * name.endswith("+")


def thinned(curve: Curve) -> tuple[list[float], list[float]]:
    """Steps and values of a curve, neighbours averaged where there are too many.

    >>> thinned([(1, 2.0), (2, 4.0)])
    ([1.0, 2.0], [2.0, 4.0])
    """
    parts = np.array_split(np.asarray(curve, dtype=np.float64).reshape(-1, 2), MAX_POINTS)
    means = [part.mean(axis=0) for part in parts if len(part)]
    return [float(mean[0]) for mean in means], [float(mean[1]) for mean in means]


def _plot(axes: Axes, curve: Curve, pen: LineStyle, scale: object, **how: object) -> None:
    steps, values = thinned(curve)
    assert callable(scale)
    heights = [scale(value) if value < MAX_NATS else math.nan for value in values]
    axes.plot(steps, heights, color=pen.color, linestyle=pen.style, **how)  # type: ignore[arg-type]


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _svg(figure: Figure, label: str) -> str:
    """A figure as an element of a page."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # tells of every font it looks at
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)  # links to the outside
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # every picture has the same ones
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    head = rf'<svg role="img" aria-label="{label}" \1>'
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', head, text, count=1)
    return text.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
