"""Plot the surprisal of sentences (PNG): a panel for each, a bar for each morph or eojeol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from korlm.config import ScoreUnit
from korlm.dataset.vocab import EOS
from korlm.evaluation.token_scores import Floats
from korlm.utils.errors import OutputError
from korlm.utils.io.table_files import check_target
from korlm.utils.plotting import COLORS, labels, save, styled

MAX_SENTENCES = 8
MAX_BARS = 80  # of a sentence
_INCHES_PER_BAR = 0.42


class SentencePlot:
    """Plot of the first sentences of a text that is scored.

    Args:
        unit: unit of the bars; for sentences, bars are eojeols.

    Raises:
        OutputError: the folder does not exist.
    """

    def __init__(self, path: Path, unit: ScoreUnit) -> None:
        check_target(path, "plot")
        self._path = path
        self._unit = ScoreUnit.morph if unit is ScoreUnit.morph else ScoreUnit.eojeol
        self._tables: list[pa.Table] = []
        self._num_sentences = 0

    def add(self, rows: Callable[[ScoreUnit], pa.Table]) -> None:
        """Add the sentences of a window, until there are enough; ``rows`` returns its table."""
        if self._num_sentences < MAX_SENTENCES:
            self._tables.append(rows(self._unit))
            self._num_sentences += len(_sentences(self._tables[-1]))

    def save(self) -> None:
        """Write the plot.

        Raises:
            OutputError: the file cannot be written.
        """
        draw_surprisal(self._path, pa.concat_tables(self._tables))


def draw_surprisal(path: Path | str, table: pa.Table) -> None:
    """Draw the first sentences of a table of morphs or eojeols as a PNG.

    The bits that spell an unknown token (open_surprisal - surprisal) are on top of its bar; a
    surprisal of infinity has no bar.

        draw_surprisal("sentence.png", run.surprisal("나는 학교에 간다.", unit="eojeol"))

    Raises:
        OutputError: the table has no rows of morphs or eojeols, or the file cannot be written.
    """
    name = "morph" if "morph" in table.column_names else "eojeol_text"
    if name not in table.column_names or not len(table):
        raise OutputError(f"{path}: give a table of morphs or eojeols that has rows")
    sentences = _sentences(table)[:MAX_SENTENCES]
    num_bars = min(max(map(len, sentences)), MAX_BARS)
    with styled():
        size = (max(6.0, 1.5 + _INCHES_PER_BAR * num_bars), 0.4 + 2.4 * len(sentences))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(sentences), 1, squeeze=False, sharey=True)[:, 0]
        for panel, rows in zip(axes, sentences, strict=True):
            _draw_sentence(panel, rows[:MAX_BARS], name, num_bars)
        axes[0].set_title("surprisal in bits; on top, the spelling of unknown tokens")
        save(figure, Path(path))


def _sentences(table: pa.Table) -> list[pa.Table]:
    """Return the rows of each sentence; <eos> is the last."""
    is_first = table.column("previous_surprisal").is_null().to_numpy()
    starts = np.flatnonzero(is_first).tolist()
    bounds = zip(starts, [*starts[1:], len(table)], strict=True)
    return [table.slice(begin, end - begin) for begin, end in bounds]


def _draw_sentence(axes: Axes, rows: pa.Table, name: str, num_bars: int) -> None:
    names: Sequence[str] = [text or EOS for text in rows.column(name).to_pylist()]
    bits, total = (_finite(rows, column) for column in ("surprisal", "open_surprisal"))
    x = np.arange(len(names))
    axes.bar(x, bits, 0.7, color=COLORS[0])
    axes.bar(x, total - bits, 0.7, bits, color=COLORS[1])
    axes.set_xlim(-0.6, num_bars - 0.4)
    axes.set_xticks(x, labels(names, "token"), rotation=45, ha="right", rotation_mode="anchor")
    axes.grid(visible=False, axis="x")


def _finite(rows: pa.Table, name: str) -> Floats:
    values: Floats = rows.column(name).to_numpy()
    return np.where(np.isfinite(values), values, 0.0)
