"""The plot of a sweep is drawn for any settings; its axes and dots are correct."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose

from korlm.sweeps import plot
from korlm.sweeps.plot import draw_sweep, scale_of

LR = "optimizer.lr"


def draw(path: Path, values: list[float], settings: dict[str, list[str]], **others: bool) -> None:
    assert draw_sweep(path, ("valid.perplexity", values), settings, **others)
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[1] == 1560
    assert pixels.std() > 0.02, "nothing is drawn"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_words_numbers_and_missing_values(tmp_path: Path) -> None:
    """One job has no metrics, another one does not have the setting."""
    settings = {
        "model": ["lstm", "gru", "lstm", "gru", "rnn"],
        LR: ["0.1", "0.001", "0.01", "0.01", "1"],
        "model.dropout": ["0.5", "", "0.25", "0.5", "0"],
    }
    draw(tmp_path / "a.png", [40.0, 50.0, 400.0, 45.0, math.inf], settings)


@pytest.mark.parametrize("larger", [False, True])
def test_odd_names(tmp_path: Path, larger: bool) -> None:
    settings = {"name": ["'실험 $x^'", "_대조", "\ue123"], "한글": ["a" * 90, "[1,2]", "null"]}
    draw(tmp_path / "a.png", [3.0, 3.0, 3.0], settings, larger_is_better=larger)


def test_many_settings_and_jobs(tmp_path: Path) -> None:
    jobs = range(120)
    settings = {f"key{k}": [str((job * (k + 3)) % 17) for job in jobs] for k in range(11)}
    draw(tmp_path / "a.png", [40 + job % 13 - 0.5 * job for job in jobs], settings)


def test_nothing_to_draw(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert not draw_sweep(path, ("valid.loss", []), {})
    assert not draw_sweep(path, ("valid.loss", [1.0, math.nan]), {"seed": ["1", "2"]})
    assert not draw_sweep(path, ("valid.loss", [1.0, 2.0]), {"seed": ["1", "1"]})
    assert not path.exists()


def test_the_best_job_is_the_orange_one(tmp_path: Path) -> None:
    """Its dot is at one end of the axis of the setting."""
    columns = []
    for larger in (False, True):
        path = tmp_path / f"{larger}.png"
        assert draw_sweep(path, ("valid.loss", [1.0, 2.0]), {"seed": ["1", "9"]}, larger)
        pixels = matplotlib.image.imread(path)[..., :3]
        orange = abs(pixels - to_rgb(plot.BEST)).sum(axis=-1) < 0.05
        panel = orange[pixels.shape[0] * 6 // 10 :]  # the panel of the setting
        columns.append(float(panel.nonzero()[1].mean()))
    assert columns[0] < 400 < columns[1]


def test_n_gram_models_are_a_level_line(tmp_path: Path) -> None:
    """Their dots are only in the panel of the models."""
    settings = {"model": ["ngram", "lstm"] * 2, LR: ["0.1", "0.1", "0.01", "0.01"]}
    drawn: list[list[Any]] = []
    for counted in ([True, False] * 2, [False] * 4, [True] * 4):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(plot, "save", lambda figure, path: drawn.append(axes_of(figure)))
            values = [40.0, 30.0, 40.0, 35.0]
            assert draw_sweep(tmp_path / "a.png", ("valid.loss", values), settings, False, counted)
    for panels, is_level, dots in zip(drawn, (True, False, False), (2, 4, 4), strict=True):
        for axes, expected in zip(panels, (4, dots), strict=True):
            lines = axes.get_lines()
            level = [line for line in lines if line.get_linestyle() == "--"]
            assert [set(line.get_ydata()) for line in level] == [{40.0}] * is_level
            (cloud, _) = (line for line in lines if line.get_marker() == "o")
            assert len(cloud.get_xdata()) == expected


def axes_of(figure: Any) -> list[Any]:
    """Return the panels of the settings."""
    return [axes for axes in figure.subfigs[1].axes if axes.get_visible()]


def test_values_of_a_search_lie_close_together() -> None:
    scale = scale_of("model.input_dropout", ["0.3", "0.301", "0.1", "0.5"])
    assert list(scale.labels) == ["0.1", "0.2", "0.3", "0.4", "0.5"]
    assert list(scale_of("seed", ["1", "2", "3"]).labels) == ["1", "2", "3"]


def test_scales() -> None:
    rates = scale_of(LR, ["1e-3", "0.01", "0.1"])
    assert rates.log and rates.labels == ["0.001", "0.01", "0.1"]
    assert_allclose(rates.normalize(rates.positions), [0, 0.5, 1])
    sizes = scale_of("model.hidden_dim", ["100", "50", "200"])
    assert not sizes.log and list(sizes.ticks) == [50, 100, 200]
    assert scale_of("model.hidden_dim", ["32", "1024"]).log
    assert not scale_of("model.dropout", ["0", "0.5"]).log
    assert not scale_of("seed", ["1", "nan"]).numeric
    assert not scale_of("trainer.max_steps", ["1", "null"]).numeric
    many = scale_of("seed", [str(n) for n in range(50)])
    assert many.labels == ["0", "12.25", "24.5", "36.75", "49"]
