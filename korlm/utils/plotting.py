"""Set the style, colors and fonts of all plots, and write PNG files; no display is needed."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import LogLocator, NullFormatter

from korlm.utils.io.atomic_files import atomic_write

logger = logging.getLogger(__name__)

MAX_LABEL = 30  # width of a label in characters; a Hangul syllable counts as two

# Colors that color-blind people can distinguish, on white and on black (after Okabe and Ito 2008).
COLORS = ("#0b84c6", "#e07b00", "#119c6d", "#d1478f", "#8f6be0", "#a8872a", "#d6493d", "#5d8aa0")
GRAY, LIGHT_GRAY = "#55534e", "#c9c7c1"

LATIN = "DejaVu Sans"  # comes with matplotlib

# Fonts with Hangul, best first.
HANGUL = (
    *("Noto Sans CJK KR", "Noto Sans KR", "Pretendard", "NanumGothic", "NanumBarunGothic"),
    *("Malgun Gothic", "Apple SD Gothic Neo", "AppleGothic", "Nanum Gothic", "UnDotum"),
    *("Source Han Sans K", "Source Han Sans KR", "Noto Sans CJK JP", "Baekmuk Dotum", "Gulim"),
)

STYLE = {
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#9a9a97"},
    "grid.linewidth": 0.6,
    **{"axes.grid": True, "grid.color": "#e6e6e3", "axes.axisbelow": True, "font.size": 9.0},
    **{"axes.titlesize": 10.0, "axes.titlelocation": "left", "axes.titleweight": "bold"},
    **{"xtick.color": GRAY, "ytick.color": GRAY, "figure.facecolor": "white"},
}


@contextmanager
def styled(**changes: Any) -> Iterator[None]:
    """Use korlm's plot style within the block, with changes to it."""
    # For good: matplotlib logs every font that it checks.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with matplotlib.style.context(["default", STYLE | {"font.family": fonts()} | changes]):
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def tick_label(value: float, position: object = None) -> str:
    """Return the label of a tick; used as formatter of an axis."""
    return f"{value:,.10g}"


def set_log_scale(axes: Axes) -> None:
    """Give the y axis a logarithmic scale, with fewer ticks the more powers of ten it covers."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = range(1, 10) if high / low < 10 else (1, 2, 5) if high / low < 1000 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=ticks))
    axes.yaxis.set_major_formatter(tick_label)
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_perplexities(
    axes: Axes, rows: Sequence[Mapping[str, float]], lines: Sequence[Mapping[str, Any]], title: str
) -> None:
    """Draw the perplexity of each bin of tokens, such as those that train has 10 to 99 times.

    Args:
        axes: axes to draw on.
        rows: bin, as ``"10-99"``, -> perplexity, for each line; bins without tokens are missing.
        lines: color and style of each line, as matplotlib names them.
        title: of the chart.
    """
    bins = sorted({name for row in rows for name in row}, key=_lower_bound)
    for row, line in zip(rows, lines, strict=True):
        values = [row.get(name, math.nan) for name in bins]
        drawn = [value if 0 < value < math.inf else math.nan for value in values]
        axes.plot(range(len(bins)), drawn, **line, linewidth=1.6, marker="o", markersize=3)
    ticks = range(0, len(bins), 1 if len(bins) < 9 else 5)
    axes.set_xticks(ticks, [bin_label(bins[tick]) for tick in ticks], fontsize=7)
    set_log_scale(axes)
    axes.set_title(title)


def _lower_bound(name: str) -> int:
    """Return the first number in the name of a bin; 0 if there is none."""
    match = re.search(r"\d{1,9}", name)
    return int(match[0]) if match else 0


def bin_label(name: str) -> str:
    """Return the label of a bin, whose name may come from a file of others.

    >>> bin_label("0"), bin_label("5-9"), bin_label("10000+")
    ('0 or unknown', '5–9', '10,000+')
    """
    if name == "0":
        return "0 or unknown"
    bounds = [int(bound) for bound in re.findall(r"\d{1,9}", name)[:2]]
    dash = "–" if max(bounds, default=0) < 100 else "–\n"  # two lines, so that labels stay apart
    return dash.join(f"{bound:,}" for bound in bounds) + ("+" if name.endswith("+") else "")


@functools.cache
def fonts() -> list[str]:
    """Return the font families; matplotlib takes each character from the first that has it."""
    if not _hangul_fonts():
        _add_new_fonts()
    return [LATIN, *_hangul_fonts()[:1]]


def _hangul_fonts() -> list[str]:
    """Return the fonts with Hangul that matplotlib knows and whose files exist, best first."""
    entries = font_manager.fontManager.ttflist
    installed = {entry.name for entry in entries if os.path.exists(entry.fname)}
    return [name for name in HANGUL if name in installed]


def _add_new_fonts() -> None:
    """Add the fonts that were installed after matplotlib wrote its font cache."""
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        # Fonts that matplotlib cannot read are skipped.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            font_manager.fontManager.addfont(path)


@functools.cache
def drawable_chars() -> frozenset[int]:
    """Return the code points that ``fonts()`` can draw."""
    paths = [font_manager.findfont(name) for name in fonts()]
    return frozenset(code for path in paths for code in FT2Font(path).get_charmap())


def labels(names: Sequence[str], kind: str) -> list[str]:
    """Return the labels of names in plots; a name that no font can draw becomes "kind number"."""
    drawable = []
    for number, name in enumerate(names, 1):
        short = _shortened(name)
        if short.isprintable() and all(ord(letter) in drawable_chars() for letter in short):
            # In matplotlib "$" starts a formula, and "_" hides a name from the legend.
            drawable.append((" " + short if short.startswith("_") else short).replace("$", r"\$"))
        else:
            drawable.append(f"{kind} {number}")
            log_missing_font()
    return drawable


@functools.cache
def log_missing_font() -> None:
    """Log, only once per process, that no font can draw some names."""
    logger.info(
        "no font for some names in plots, which are replaced by numbers; for Hangul, install "
        "fonts-nanum or Noto Sans CJK"
    )


def _shortened(name: str) -> str:
    """Return a name without its beginning if it is too long, since paths differ at their end."""
    widths = [2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in name]
    if sum(widths) <= MAX_LABEL:
        return name
    room, at = MAX_LABEL - 1, len(name)
    while room >= widths[at - 1]:
        at -= 1
        room -= widths[at]
    return "…" + name[at:]
