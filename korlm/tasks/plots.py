"""Images for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from korlm.utils.plotting import labels as drawable_labels
from korlm.utils.plotting import styled

Image = npt.NDArray[np.uint8]  # (height, width, 3)


def confusion_matrix_image(counts: npt.NDArray[Any], labels: Sequence[str]) -> Image:
    """Return a confusion matrix as an image; a row is the distribution of a label's predictions.

    ``counts`` is (C, C), rows are labels, columns predictions.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    with styled():
        size = 2.5 + 0.4 * len(labels)
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(False)
        axes.set(xlabel="prediction", ylabel="label")
        ticks, names = range(len(labels)), drawable_labels(labels, "label")
        axes.set_xticks(ticks, names, rotation=90 if len(labels) > 5 else 0)
        axes.set_yticks(ticks, names)
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=color)
        return to_image(figure)


def attention_image(
    weights: npt.NDArray[Any], source: Sequence[str], target: Sequence[str]
) -> Image:
    """Return attention weights (T, S), a row for each target token, as an image."""
    with styled():
        size = (1.5 + 0.3 * len(source), 1.2 + 0.3 * len(target))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.grid(False)
        axes.set(xlabel="source", ylabel="target")
        axes.set_xticks(range(len(source)), drawable_labels(source, "token"))
        axes.set_yticks(range(len(target)), drawable_labels(target, "token"))
        return to_image(figure)


def to_image(figure: Figure) -> Image:
    """Draw a figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return pixels[..., :3].copy()
