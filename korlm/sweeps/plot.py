"""A picture of a sweep, as PNG: parallel coordinates, and the objective against each setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from korlm.utils.plotting import COLORS, labels, save, styled

MAX_SETTINGS = 8  # that are drawn, the first ones


MAX_TICKS = 9  # values of a setting that are named one by one


MIN_GAP = 0.1  # of the axis between two of them, as a search leaves it


BEST = COLORS[1]


BASELINE = "#55534e"


# Largest / smallest, from which on a logarithm shows more: of settings, of the objective.
WIDE_SPAN, WIDE_GOAL = 20, 3


@dataclass(frozen=True)
class Scale:
    """An axis: places of the jobs on it, and what is written where.

    Attributes:
        name: of the setting or figure.
        places: (jobs,) float64; logarithms where ``log``; numbers of choices where they are words.
        ticks: the places that are named.
        labels: of the ticks.
        log: whether places are logarithms of numbers.
        numeric: whether places have distances.
    """

    name: str
    places: np.ndarray
    ticks: Sequence[float]
    labels: Sequence[str]
    log: bool = False
    numeric: bool = True

    def share(self, places: Any) -> np.ndarray:
        """Places as 0 (lowest) to 1 (highest)."""
        low, high = float(self.places.min()), float(self.places.max())
        return np.asarray((np.asarray(places) - low) / ((high - low) or 1.0))


def draw_sweep(
    path: Path,
    objective: tuple[str, Sequence[float]],
    settings: Mapping[str, Sequence[str]],
    larger_is_better: bool = False,
    counted: Sequence[bool] = (),
) -> bool:
    """Draws the jobs of a sweep.

    N-gram models among networks are a level line: the settings of networks do not concern them.

    Args:
        path: of the PNG.
        objective: its name, and its value in each job; jobs without a finite one are left out.
        settings: name -> value in each job, as typed, of those in which the jobs differ.
        larger_is_better: whether the best job has the largest value.
        counted: whether each job is an n-gram model; empty: none is.

    Returns:
        Whether there was something to draw: two jobs at least that differ in a setting.
    """
    name, values = objective
    there = [at for at, value in enumerate(values) if math.isfinite(value)]
    chosen = {key: [column[at] for at in there] for key, column in settings.items()}
    chosen = {key: column for key, column in chosen.items() if len(set(column)) > 1}
    if not chosen:
        return False
    with styled():
        scales = [scale_of(key, chosen[key]) for key in list(chosen)[:MAX_SETTINGS]]
        goal = scale_of(name, [repr(values[at]) for at in there], WIDE_GOAL)
        # From the worst to the best: what is drawn last lies on top.
        order = np.argsort(goal.places if larger_is_better else -goal.places, kind="stable")
        baselines = np.array([bool(counted) and counted[at] for at in there])[order]
        rows = math.ceil(len(scales) / 4)
        figure = Figure(figsize=(12, 4.2 + 2.9 * rows), layout="constrained")
        halves: Any = figure.subfigures(2, 1, height_ratios=[4.2, 2.9 * rows])
        _draw_coordinates(halves[0].subplots(), [*scales, goal], order)
        panels = halves[1].subplots(rows, min(len(scales), 4), squeeze=False, sharey=True)
        for at, axes in enumerate(panels.flat):
            if at < len(scales):
                _draw_setting(axes, scales[at], goal, order, baselines)
            else:
                axes.set_visible(False)
        for row in panels:
            row[0].set_ylabel(name)
        left = len(chosen) - len(scales)
        more = f"; {left} more settings differ" if left else ""
        title = (
            f"{len(there):,} jobs, {'larger' if larger_is_better else 'smaller'} {name} is better"
        )
        level = "; dashed: the best n-gram model" if 0 < baselines.sum() < len(there) else ""
        figure.suptitle(title + level + more, x=0.01, ha="left", fontsize=12, weight="bold")
        save(figure, path)
    return True


def scale_of(name: str, values: Sequence[str], span: float = WIDE_SPAN) -> Scale:
    """An axis for the values of a setting: numbers in their order, words one beside the other.

    A learning rate, and what spans much (largest / smallest), is drawn by its logarithm.

    >>> scale_of("optimizer.lr", ["0.1", "0.001", "0.01"]).places.tolist()
    [-1.0, -3.0, -2.0]
    >>> scale_of("model", ["lstm", "gru", "lstm"]).places.tolist()
    [0.0, 1.0, 0.0]
    """
    numbers = _numbers(values)
    if numbers is None:
        words = list(dict.fromkeys(values))
        shown = [word.strip("'\"") or "(default)" for word in words]
        ticks = list(range(len(words)))
        places = np.array([words.index(value) for value in values], dtype=np.float64)
        return Scale(name, places, ticks, labels(shown, "choice"), numeric=False)
    low, high = numbers.min(), numbers.max()
    log = bool(low > 0 and (name.endswith("lr") or high / low >= span))
    distinct = np.unique(numbers)
    known = np.log10(distinct) if log else distinct
    gap = np.diff(known).min(initial=math.inf) / ((known[-1] - known[0]) or 1.0)
    if len(distinct) > MAX_TICKS or gap < MIN_GAP:
        distinct = np.geomspace(low, high, 5) if log else np.linspace(low, high, 5)
    told = [f"{value:,.4g}" for value in distinct]
    ticks = (np.log10(distinct) if log else distinct).tolist()
    return Scale(name, np.log10(numbers) if log else numbers, ticks, told, log)


def _numbers(values: Sequence[str]) -> np.ndarray | None:
    """The values, if all of them are finite numbers."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _draw_coordinates(axes: Axes, scales: Sequence[Scale], order: np.ndarray) -> None:
    """A line for each job through its place on every axis, the objective at the right."""
    shares = np.stack([scale.share(scale.places) for scale in scales], axis=1)  # (jobs, axes)
    at = np.arange(len(scales))
    lines = [np.column_stack([at, shares[job]]) for job in order]
    colors = colormaps["viridis_r"](np.linspace(0.15, 0.95, len(lines)))
    alpha = min(0.85, max(0.12, 12 / len(lines)))
    axes.add_collection(LineCollection(lines[:-1], colors=colors, alpha=alpha, linewidths=1.1))
    axes.plot(*lines[-1].T, color=BEST, linewidth=2.4, solid_joinstyle="round")
    for place, scale in enumerate(scales):
        axes.axvline(place, color="#9a9a97", linewidth=1, zorder=0)
        for share, text in zip(scale.share(scale.ticks), scale.labels, strict=True):
            axes.annotate(
                text, (place, share), (4, 0), textcoords="offset points", va="center", fontsize=8,
                bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
    axes.set_xticks(at, labels([scale.name for scale in scales], "setting"))
    axes.set_yticks([])
    axes.set_xlim(-0.15, len(scales) - 0.7)
    axes.set_ylim(-0.06, 1.06)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_title("a line for each job, the darker the better; the best one in orange")


def _draw_setting(
    axes: Axes, scale: Scale, goal: Scale, order: np.ndarray, baselines: np.ndarray
) -> None:
    """Draw a dot for each job, and a line through the best of each value.

    Args:
        axes: to draw on.
        scale: of the setting.
        goal: of the objective.
        order: (jobs,) from the worst to the best.
        baselines: (jobs,) bool, in this order: n-gram models, of which the best is a level line.
    """
    winner = order[-1]
    if baselines.any() and not baselines.all():
        height = goal.places[order[baselines][-1]]
        axes.axhline(10**height if goal.log else height, color=BASELINE, linestyle="--", zorder=0)
        if scale.name != "model":
            order = order[~baselines]
    best = dict(zip(scale.places[order], goal.places[order], strict=True))  # the last one stays
    places = np.array(sorted(best))
    heights = np.array([best[place] for place in places])
    true_places, true_heights = (
        10**part if log else part for part, log in ((places, scale.log), (heights, goal.log))
    )
    if scale.numeric and len(places) == len(scale.ticks):
        axes.plot(true_places, true_heights, color="#c9c7c1", linewidth=1.2, zorder=1)
    x = (10**scale.places if scale.log else scale.places)[order]
    y = (10**goal.places if goal.log else goal.places)[order]
    axes.plot(x, y, "o", color=COLORS[0], markersize=5, alpha=min(0.8, max(0.2, 60 / len(y))))
    if order[-1] == winner:
        axes.plot(x[-1], y[-1], "o", color=BEST, markersize=7)
    if scale.log:
        axes.set_xscale("log")
    if goal.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ticks = [10**tick if scale.log else tick for tick in scale.ticks]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    wide = sum(map(len, scale.labels)) > 40
    axes.set_xticks(
        ticks, scale.labels, rotation=30 if wide else 0, ha="right" if wide else "center"
    )
    axes.margins(0.12 if scale.numeric else 0.25, 0.1)
    (title,) = labels([scale.name], "setting")
    axes.set_title(title)
