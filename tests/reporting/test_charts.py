"""Charts: valid SVG that takes its colors from the page and has no links."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from korlm.reporting.charts import (
    MAX_POINTS,
    downsample,
    draw_breakdowns,
    draw_curves,
    draw_task_curves,
    line_styles,
)


def test_line_styles() -> None:
    assert len(set(line_styles(24))) == 24
    assert len(line_styles(100)) == 100


def test_downsampling_keeps_the_mean_and_the_order() -> None:
    curve = [(step, float(step % 7)) for step in range(7 * MAX_POINTS)]
    steps, values = downsample(curve)
    assert len(steps) == MAX_POINTS
    assert steps == sorted(steps)
    assert all(math.isclose(value, 3.0) for value in values)
    assert downsample([]) == ([], [])


def test_curves_are_one_element_with_colors_of_the_page() -> None:
    losses = [[(10, 5.0), (20, 1000.0)], []]
    text = draw_curves(losses, [[(20, 2.0)], []], losses, line_styles(2), [False, False])
    root = ElementTree.fromstring(text)
    assert root.tag == "svg" and root.get("viewBox")
    assert "var(--ink)" in text and "#010203" not in text
    assert line_styles(1)[0].color in text
    assert "http" not in text and 'id="figure' not in text
    assert "optimizer step" in text  # text, not outlines


def test_curves_of_a_task() -> None:
    scores, losses = [[(10, 0.5), (20, 0.75)], []], [[(10, 2.0), (20, 1.0)], [(10, 3.0)]]
    text = draw_task_curves("f1", scores, losses, losses, [[], []], line_styles(2))
    ElementTree.fromstring(text)
    assert "valid f1" in text and "learning rate" in text and "perplexity" not in text


def test_large_values_of_a_task_are_drawn_and_large_losses_are_not() -> None:
    styles, large = line_styles(1), [[(10, 3000.0), (20, 2.0)]]
    task = draw_task_curves("perplexity", large, [[]], [[]], [[]], styles)
    losses = draw_curves([[]], large, [[]], styles, [False])
    markers = [len(re.findall(f"<use [^>]*{styles[0].color}", text)) for text in (task, losses)]
    assert markers == [2, 1]


def test_an_ngram_model_is_a_horizontal_line() -> None:
    network = [(10, 5.0), (1000, 3.0)]
    texts = [
        draw_curves([network, []], [network, points], [network, []], line_styles(2), [False, True])
        for points in ([(1, 4.0)], [(1, 4.0), (2000, 4.0)])
    ]
    assert texts[0] == texts[1]
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke: (#\w+)', texts[0])
    (level,) = (path for path, color in paths if color == line_styles(2)[1].color)
    (left, height), (right, same) = re.findall(r"([\d.]+) ([\d.]+)", level)
    assert height == same and float(right) - float(left) > 300
    for points in ([], [(1, math.inf)]):
        draw_curves([network, []], [network, points], [network, []], line_styles(2), [False, True])


def test_bins_are_in_the_order_of_their_bounds() -> None:
    bands = [{"2-9": 3.0, "10000+": 2.0}, {"0": 4.0, "10-99": 2.0, "10000+": 1.0}]
    text = draw_breakdowns(bands, [{}, {}], line_styles(2))
    labels = re.findall(r">(0 or unknown|2–9|10–99|10,000\+)</text>", text)
    assert labels == ["0 or unknown", "2–9", "10–99", "10,000+"]


def test_breakdowns_with_missing_bins() -> None:
    bands = [{"0": 10.0, "2-9": 3.0, "10000+": 2.0}, {"0": math.inf}]
    text = draw_breakdowns(bands, [{"1": 3.0, "<b>$": 2.0}, {}], line_styles(2))
    ElementTree.fromstring(text)
    for label in ("unknown", "2–9", "10,000+"):
        assert label in text
    assert "<b>" not in text and "&lt;b" not in text
    assert draw_breakdowns(bands, [{}, {}], line_styles(2)) == draw_breakdowns(
        bands, [{}, {}], line_styles(2)
    )
