"""Build the report: runs as one self-contained HTML page (``page.html``, a Jinja2 template).

The page has no scripts and no external resources; its Content-Security-Policy forbids both. Values
from runs are escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from korlm.config.metrics import (
    CHARS,
    EXAMPLES,
    LANGUAGE_MODELING,
    TOKEN_COUNTS,
    is_larger_better,
    metric_of,
    metrics_of,
)
from korlm.reporting.charts import (
    LineStyle,
    draw_breakdowns,
    draw_curves,
    draw_task_curves,
    line_styles,
)
from korlm.reporting.run_summary import (
    RunSummary,
    by_kind,
    comparable,
    differing_settings,
    number,
    objective_of,
)
from korlm.utils.errors import output_errors
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.tables import rounded

# Up to this number, differing settings are in the first columns and in labels; else in the last
# columns only.
MAX_KEYS = 3
MAX_SAMPLE_CHARS = 2000
DIFFERENT_TOKENS = "The runs have different tokens: only bits per character can be compared."
DIFFERENT_TEXT = "The runs have different validation texts: no metric can be compared."

DIFFERENT_EXAMPLES = "The runs have different validation examples: no metric can be compared."

TRAINING_METRICS = (
    ("parameters", "training", "num_parameters", ()),
    ("steps", "training", "steps", ()),
    ("seconds", "training", "seconds", ()),
)


@dataclass(frozen=True)
class Column:
    """A column of the table of runs.

    Attributes:
        values: run name -> value of a setting, or of a metric (nan if missing).
        best: best value, which is highlighted; None: the values cannot be compared.
    """

    title: str
    values: Mapping[str, str | float]
    is_metric: bool = False
    best: float | None = None


def build_page(title: str, runs: Sequence[RunSummary]) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["metric"] = format_metric
    several = "Sorted by the result on valid, the best first"
    subtitle = several if len(runs) > 1 else str(runs[0].folder)
    return environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        runs=runs,
        groups=[_group(kind, group) for kind, group in by_kind(runs).items()],
        time=f"{datetime.now():%Y-%m-%d %H:%M}",
    )


def _group(kind: str, runs: Sequence[RunSummary]) -> dict[str, Any]:
    """Return the data of runs of one kind for the template; ``styles`` and ``labels`` by run."""
    styles = dict(zip((run.name for run in runs), line_styles(len(runs)), strict=True))
    labels = _labels(runs)
    return {
        "kind": kind,
        "runs": runs,
        "styles": styles,
        "labels": labels,
        "columns": _columns(runs),
        "note": _comparability_note(runs),
        "curves": _curves(runs, styles, labels),
        "breakdowns": _breakdowns(runs, labels),
        "samples": _samples(runs),
        "has_problems": any(run.problems for run in runs),
    }


def write_page(path: Path, page: str) -> None:
    """Write the page atomically."""
    with output_errors(path, "output=FILE"), atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def format_metric(value: float) -> str:
    """Return a number for display; empty for nan.

    >>> [format_metric(value) for value in (52.57668, 1234567.0, 0.5, math.inf, math.nan)]
    ['52.58', '1,234,567', '0.5', '∞', '']
    """
    if math.isnan(value):
        return ""
    return "∞" if math.isinf(value) else rounded(value)


def _labels(runs: Sequence[RunSummary]) -> dict[str, str]:
    """Return run name -> name with up to ``MAX_KEYS`` differing settings.

    A setting that is part of the name, as in most sweeps, is not repeated.
    """
    keys = [key for key in differing_settings(runs) if key != "name"]
    if len(keys) > MAX_KEYS:
        return {run.name: run.name for run in runs}
    values = {run.name: [run.settings.get(key, "") for key in keys] for run in runs}
    return {
        name: ", ".join([name, *(value for value in row if value and f"={value}" not in name)])
        for name, row in values.items()
    }


def _comparability_note(runs: Sequence[RunSummary]) -> str:
    if runs[0].task != LANGUAGE_MODELING:
        return "" if comparable(runs, *EXAMPLES) else DIFFERENT_EXAMPLES
    if comparable(runs, *TOKEN_COUNTS):
        return ""
    return DIFFERENT_TOKENS if comparable(runs, *CHARS) else DIFFERENT_TEXT


def _metrics(runs: Sequence[RunSummary]) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Return (title, source, key, counts) of each metric of runs of one kind.

    ``counts`` are the counts that must be equal so that values can be compared; a metric without
    them has no best value. See ``RunSummary.metric`` for ``source``.
    """
    metrics = [metric for metric in metrics_of(runs[0].task) if metric.in_report]
    if runs[0].task != LANGUAGE_MODELING:
        first = metric_of(objective_of(runs).partition(".")[2], runs[0].task)
        metrics = list(dict.fromkeys((first, *metrics)))
    # Spans and written texts do not depend on the tokens, unlike the units that have tags.
    units = ("num_labels",) if runs[0].kind == "tagging of tags" else ()
    shown = [
        (f"{split} {metric.title}", split, metric.key, metric.counts and (*metric.counts, *units))
        for metric in metrics
        for split in ("valid", "test")
    ]
    return [*shown, *TRAINING_METRICS]


def _columns(runs: Sequence[RunSummary]) -> list[Column]:
    settings = [
        Column(key, {run.name: run.settings.get(key, "") for run in runs})
        for key in differing_settings(runs)
    ]
    metrics = []
    for title, source, key, counts in _metrics(runs):
        values = {run.name: run.metric(source, key) for run in runs}
        if all(map(math.isnan, values.values())):
            continue
        best = None
        if counts and comparable(runs, *counts) and len(runs) > 1:
            best_of = max if is_larger_better(key) else min
            best = best_of(value for value in values.values() if not math.isnan(value))
        metrics.append(Column(title, values, True, best))
    return settings + metrics if len(settings) <= MAX_KEYS else metrics + settings


def _curves(
    runs: Sequence[RunSummary], styles: Mapping[str, LineStyle], labels: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the chart over optimizer steps; None if there are no curves."""
    tags = ("loss/train", "loss/valid", "train/lr")
    with_curves = [run for run in runs if any(run.curve(tag) for tag in tags)]
    if not with_curves:
        return None
    train, valid, rates = ([run.curve(tag) for run in with_curves] for tag in tags)
    lines = {labels[run.name]: styles[run.name] for run in with_curves}
    used_styles = list(lines.values())
    if runs[0].task == LANGUAGE_MODELING:
        is_ngram = [run.is_ngram for run in with_curves]
        svg = draw_curves(train, valid, rates, used_styles, is_ngram)
    else:
        key = objective_of(runs).partition(".")[2]
        scores = [run.curve(f"{key}/valid") or run.curve(f"quality/{key}") for run in with_curves]
        svg = draw_task_curves(key, scores, train, valid, rates, used_styles)
    return {"lines": lines, "svg": Markup(svg)}


def _breakdowns(runs: Sequence[RunSummary], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a chart for each text: all evaluation modes of one run, or the first of each run."""
    charts = []
    for text in dict.fromkeys(text for run in runs for text in run.evaluation):
        lines: dict[str, tuple[dict[str, float], dict[str, float]]] = {}
        for run in runs:
            modes = run.evaluation.get(text)
            modes = modes if isinstance(modes, Mapping) else {}
            for mode in list(modes) if len(runs) == 1 else list(modes)[:1]:
                label = mode if len(runs) == 1 else f"{labels[run.name]} ({mode})"
                bins = _bins(modes[mode], "bands"), _bins(modes[mode], "positions")
                if any(bins):
                    lines[label] = bins
        if lines:
            styles = line_styles(len(lines))
            frequency, position = zip(*lines.values(), strict=True)
            svg = draw_breakdowns(frequency, position, styles)
            legend = dict(zip(lines, styles, strict=True))
            charts.append({"title": text, "lines": legend, "svg": Markup(svg)})
    return charts


def _bins(metrics: Any, key: str) -> dict[str, float]:
    """Return bin -> perplexity of the bins that contain tokens."""
    bins = metrics.get(key) if isinstance(metrics, Mapping) else None
    if not isinstance(bins, Mapping):
        return {}
    values = {name: number(value, "perplexity") for name, value in bins.items()}
    return {name: value for name, value in values.items() if 0 < value < math.inf}


def _samples(runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """Return the last sample of each run; ``table`` has the cells of a table in Markdown."""
    samples = []
    for run in runs:
        if run.tensorboard.sample:
            step, text = run.tensorboard.sample
            table = _table_of(text)
            text = re.sub(r"\s*\n\s*", "\n", text).strip()
            text = text[:MAX_SAMPLE_CHARS] + "…" * (len(text) > MAX_SAMPLE_CHARS)
            samples.append({"run": run, "step": step, "text": text, "table": table})
    return samples


def _table_of(text: str) -> list[list[str]]:
    r"""Return the cells of a table in Markdown; none if the text is something else.

    >>> _table_of("| text | label |\n| --- | --- |\n| 좋다 | 1 |")
    [['text', 'label'], ['좋다', '1']]
    >>> _table_of("나는 |")
    []
    """
    lines = text.strip().split("\n")
    if len(lines) < 3 or not re.fullmatch(r"\|( --- \|)+", lines[1].strip()):
        return []
    rows = [line.strip().removeprefix("|").removesuffix("|") for line in (lines[0], *lines[2:])]
    return [[cell.strip() for cell in row.split(" | ")] for row in rows]
