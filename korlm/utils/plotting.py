"""Set the style and the fonts of all plots, and write them as PNG files; no display is needed."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from korlm.utils.io.atomic_files import atomic_write

logger = logging.getLogger(__name__)

MAX_LABEL = 30  # width of a label in characters; a Hangul syllable counts as two

COLORS = ("#0b6e99", "#d9730d", "#4d8f3c", "#ad1a72", "#6940a5", "#8a6d3b", "#c2a200", "#787774")

LATIN = "DejaVu Sans"  # comes with matplotlib

# Fonts with Hangul, best first.
HANGUL = (
    *("Noto Sans CJK KR", "Noto Sans KR", "Pretendard", "NanumGothic", "NanumBarunGothic"),
    *("Malgun Gothic", "Apple SD Gothic Neo", "AppleGothic", "Nanum Gothic", "UnDotum"),
    *("Source Han Sans K", "Source Han Sans KR", "Noto Sans CJK JP", "Baekmuk Dotum", "Gulim"),
)

STYLE = {
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#9a9a97"},
    **{"axes.grid": True, "grid.color": "#e6e6e3", "axes.axisbelow": True, "font.size": 9.0},
    **{"axes.titlesize": 10.0, "axes.titlelocation": "left", "axes.titleweight": "bold"},
    **{"xtick.color": "#55534e", "ytick.color": "#55534e", "figure.facecolor": "white"},
}


@contextmanager
def styled() -> Iterator[None]:
    """Use korlm's plot style within the block."""
    # For good: matplotlib logs every font that it checks.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with matplotlib.style.context(["default", {**STYLE, "font.family": fonts()}]):
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def set_log_scale(axes: Axes, max_ratio: float = 100) -> None:
    """Give the y axis a logarithmic scale, with ticks at 1, 2, 5 if max / min < ``max_ratio``."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < max_ratio else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


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
