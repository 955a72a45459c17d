"""Pictures: whole SVG that takes its ink from the page and holds no addresses."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from korlm.reporting.charts import MAX_POINTS, draw_curves, draw_groups, pens, thinned


def test_pens_differ() -> None:
    assert len(set(pens(24))) == 24
    assert len(pens(100)) == 100


def test_thinning_keeps_the_mean_and_the_order() -> None:
    curve = [(step, float(step % 7)) for step in range(7 * MAX_POINTS)]
    steps, values = thinned(curve)
    assert len(steps) == MAX_POINTS
    assert steps == sorted(steps)
    assert all(math.isclose(value, 3.0) for value in values)
    assert thinned([]) == ([], [])


def test_curves_are_one_element_with_colours_of_the_page() -> None:
    losses = [[(10, 5.0), (20, 1000.0)], []]
    text = draw_curves(losses, [[(20, 2.0)], []], losses, pens(2), [False, False])
    root = ElementTree.fromstring(text)
    assert root.tag == "svg" and root.get("viewBox")
    assert "var(--ink)" in text and "#010203" not in text
    assert pens(1)[0].color in text
    assert "http" not in text and 'id="figure' not in text
    assert "optimizer step" in text  # as text, in the page's own font


def test_an_n_gram_model_is_a_level_line() -> None:
    """From one edge of the picture to the other, however many points it has."""
    network = [(10, 5.0), (1000, 3.0)]
    texts = [
        draw_curves([network, []], [network, points], [network, []], pens(2), [False, True])
        for points in ([(1, 4.0)], [(1, 4.0), (2000, 4.0)])
    ]
    assert texts[0] == texts[1]
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke: (#\w+)', texts[0])
    (level,) = (path for path, color in paths if color == pens(2)[1].color)
    (left, height), (right, same) = re.findall(r"([\d.]+) ([\d.]+)", level)
    assert height == same and float(right) - float(left) > 300
    for points in ([], [(1, math.inf)]):
        draw_curves([network, []], [network, points], [network, []], pens(2), [False, True])


def test_groups_take_what_there_is() -> None:
    bands = [{"0": 10.0, "2-9": 3.0, "10000+": 2.0}, {"0": math.inf}]
    text = draw_groups(bands, [{"1": 3.0, "<b>$": 2.0}, {}], pens(2))
    ElementTree.fromstring(text)
    for label in ("unknown", "2–9", "10,000+"):
        assert label in text
    assert "<b>" not in text and "&lt;b" not in text
    assert draw_groups(bands, [{}, {}], pens(2)) == draw_groups(bands, [{}, {}], pens(2))
