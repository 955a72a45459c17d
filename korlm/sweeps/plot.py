"""Plot a sweep: parallel coordinates, and the objective against each setting."""

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
from matplotlib.ticker import FixedLocator, NullLocator

from korlm.utils.plotting import (
    COLORS,
    GRAY,
    LIGHT_GRAY,
    labels,
    save,
    set_log_scale,
    styled,
    tick_label,
)

MAX_SETTINGS = 8  # largest number of settings that are drawn

# An axis has a tick for each value if there are at most MAX_TICKS values whose smallest distance,
# as a fraction of the axis, is at least MIN_GAP.
MAX_TICKS, MIN_GAP = 9, 0.1

BEST = COLORS[1]  # color of the best job

BASELINE = GRAY  # color of the best n-gram model

# Ratio largest / smallest from which an axis is logarithmic: axis of a setting, of the objective.
WIDE_SPAN, WIDE_GOAL = 20, 3


@dataclass(frozen=True)
class Scale:
    """An axis with the positions of the jobs.

    Attributes:
        positions: position of each job, float64 (jobs,): the value, its log10 if ``log``, or the
            index of the choice if not ``numeric``.
    """

    name: str
    positions: np.ndarray
    ticks: Sequence[float]
    labels: Sequence[str]
    log: bool = False
    numeric: bool = True

    def normalize(self, positions: Any) -> np.ndarray:
        """Return positions scaled to 0 (lowest) to 1 (highest)."""
        low, high = float(self.positions.min()), float(self.positions.max())
        return np.asarray((np.asarray(positions) - low) / ((high - low) or 1.0))


def draw_sweep(
    path: Path,
    objective: tuple[str, Sequence[float]],
    settings: Mapping[str, Sequence[str]],
    larger_is_better: bool = False,
    is_ngram: Sequence[bool] = (),
) -> bool:
    """Plot the jobs of a sweep that have a finite objective.

    Beside neural models, the best n-gram model is a horizontal line, since it lacks their settings.

    Returns:
        True if a plot was written; at least two jobs must differ in a setting.
    """
    name, values = objective
    finite = [at for at, value in enumerate(values) if math.isfinite(value)]
    chosen = {key: [column[at] for at in finite] for key, column in settings.items()}
    chosen = {key: column for key, column in chosen.items() if len(set(column)) > 1}
    if not chosen:
        return False
    with styled():
        scales = [scale_of(key, chosen[key]) for key in list(chosen)[:MAX_SETTINGS]]
        goal = scale_of(name, [repr(values[at]) for at in finite], WIDE_GOAL)
        # From worst to best: the best is drawn last, on top.
        order = np.argsort(goal.positions if larger_is_better else -goal.positions, kind="stable")
        baselines = np.array([bool(is_ngram) and is_ngram[at] for at in finite])[order]
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
            f"{len(finite):,} jobs, {'larger' if larger_is_better else 'smaller'} {name} is better"
        )
        level = "; dashed: the best n-gram model" if 0 < baselines.sum() < len(finite) else ""
        figure.suptitle(title + level + more, x=0.01, ha="left", fontsize=12, weight="bold")
        save(figure, path)
    return True


def scale_of(name: str, values: Sequence[str], span: float = WIDE_SPAN) -> Scale:
    """Return the axis for the values of a setting.

    Learning rates, and numbers with a large ratio of largest to smallest, get a logarithmic axis.

    >>> scale_of("optimizer.lr", ["0.1", "0.001", "0.01"]).positions.tolist()
    [-1.0, -3.0, -2.0]
    >>> scale_of("model", ["lstm", "gru", "lstm"]).positions.tolist()
    [0.0, 1.0, 0.0]
    """
    numbers = _numbers(values)
    if numbers is None:
        words = list(dict.fromkeys(values))
        shown = [word.strip("'\"") or "(default)" for word in words]
        ticks = list(range(len(words)))
        positions = np.array([words.index(value) for value in values], dtype=np.float64)
        return Scale(name, positions, ticks, labels(shown, "choice"), numeric=False)
    low, high = numbers.min(), numbers.max()
    log = bool(low > 0 and (name.endswith("lr") or high / low >= span))
    distinct = np.unique(numbers)
    at = np.log10(distinct) if log else distinct
    gap = np.diff(at).min(initial=math.inf) / ((at[-1] - at[0]) or 1.0)
    if len(distinct) > MAX_TICKS or gap < MIN_GAP:
        distinct = np.geomspace(low, high, 5) if log else np.linspace(low, high, 5)
    texts = [f"{value:,.4g}" for value in distinct]
    ticks = (np.log10(distinct) if log else distinct).tolist()
    return Scale(name, np.log10(numbers) if log else numbers, ticks, texts, log)


def _numbers(values: Sequence[str]) -> np.ndarray | None:
    """Return the values as numbers; None if any value is not a finite number."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _draw_coordinates(axes: Axes, scales: Sequence[Scale], order: np.ndarray) -> None:
    """Draw a line per job through its position on every axis, the objective on the right."""
    shares = np.stack(
        [scale.normalize(scale.positions) for scale in scales], axis=1
    )  # (jobs, axes)
    at = np.arange(len(scales))
    lines = [np.column_stack([at, shares[job]]) for job in order]
    colors = colormaps["viridis_r"](np.linspace(0.15, 0.95, len(lines)))
    alpha = min(0.85, max(0.12, 12 / len(lines)))
    axes.add_collection(LineCollection(lines[:-1], colors=colors, alpha=alpha, linewidths=1.1))
    axes.plot(*lines[-1].T, color=BEST, linewidth=2.4, solid_joinstyle="round")
    for index, scale in enumerate(scales):
        axes.axvline(index, color="#9a9a97", linewidth=1, zorder=0)
        for share, text in zip(scale.normalize(scale.ticks), scale.labels, strict=True):
            axes.annotate(
                text, (index, share), (4, 0), textcoords="offset points", va="center", fontsize=8,
                bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
    axes.set_xticks(at, labels([scale.name for scale in scales], "setting"))
    axes.set_yticks([])
    axes.set_xlim(-0.15, len(scales) - 0.7)
    axes.set_ylim(-0.06, 1.06)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_title("one line per job, the darker the better; best job in orange")


def _draw_setting(
    axes: Axes, scale: Scale, goal: Scale, order: np.ndarray, baselines: np.ndarray
) -> None:
    """Draw a dot per job, and a line through the best job of each value.

    Args:
        axes: axes to draw on.
        scale: axis of the setting.
        goal: axis of the objective.
        order: (jobs,) indices from worst to best.
        baselines: True for n-gram models, bool (jobs,), in this order; the best becomes a line.
    """
    winner = order[-1]
    if baselines.any() and not baselines.all():
        height = goal.positions[order[baselines][-1]]
        axes.axhline(10**height if goal.log else height, color=BASELINE, linestyle="--", zorder=0)
        if scale.name != "model":
            order = order[~baselines]
    # Position of a value -> objective of its best job, which comes last.
    best = dict(zip(scale.positions[order], goal.positions[order], strict=True))
    positions = np.array(sorted(best))
    heights = np.array([best[position] for position in positions])
    x_values, y_values = (
        10**part if log else part for part, log in ((positions, scale.log), (heights, goal.log))
    )
    if scale.numeric and len(positions) == len(scale.ticks):
        axes.plot(x_values, y_values, color=LIGHT_GRAY, linewidth=1.2, zorder=1)
    x = (10**scale.positions if scale.log else scale.positions)[order]
    y = (10**goal.positions if goal.log else goal.positions)[order]
    axes.plot(x, y, "o", color=COLORS[0], markersize=5, alpha=min(0.8, max(0.2, 60 / len(y))))
    if order[-1] == winner:
        axes.plot(x[-1], y[-1], "o", color=BEST, markersize=7)
    if scale.log:
        axes.set_xscale("log")
    if goal.log:
        set_log_scale(axes)
    axes.yaxis.set_major_formatter(tick_label)
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
