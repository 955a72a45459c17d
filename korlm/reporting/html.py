"""Runs as one HTML page: no script, no outside address, every text escaped.

A Content-Security-Policy in the page forbids the browser to ask anybody for anything, whatever a
run's name or text may hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from korlm.reporting.charts import LineStyle, draw_curves, draw_groups, pens
from korlm.reporting.run_summary import TOKENS, RunSummary, comparable, number, varying
from korlm.utils.errors import output_errors
from korlm.utils.io.atomic_files import atomic_write

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


MAX_KEYS = 3  # settings that stand before the figures and beside a line; more stand behind


MAX_SAMPLE = 2000  # characters of a text


OTHER_TOKENS = "Other tokens: only bits per character can be compared between these runs."


OTHER_TEXT = "Other valid texts: no figure can be compared between these runs."


# Column, what it is read from, whether less is better, whether other tokens make it incomparable.
FIGURES = (
    ("valid perplexity", "valid", "perplexity", True, True),
    ("test perplexity", "test", "perplexity", True, True),
    ("valid bits per char", "valid", "bits_per_char", True, False),
    ("test bits per char", "test", "bits_per_char", True, False),
    ("parameters", "training", "num_parameters", False, False),
    ("steps", "training", "steps", False, False),
    ("seconds", "training", "seconds", False, False),
)


def build_page(title: str, runs: Sequence[RunSummary], now: datetime | None = None) -> str:
    """The whole page.

    Args:
        title: of the page.
        runs: in the order of the table.
        now: when it is made; None: now.
    """
    css = Path(__file__).with_name("page.css").read_text("utf-8")
    drawn = dict(zip((run.name for run in runs), pens(len(runs)), strict=True))
    labels = _labels(runs)
    parts = [
        _table(runs, drawn),
        _curves(runs, drawn, labels),
        _breakdowns(runs, labels),
        _samples(runs, drawn, labels),
    ]
    body = "\n".join(part for part in (*parts, _settings(runs)) if part)
    line = f"{len(runs)} runs, the best on valid first" if len(runs) > 1 else str(runs[0].folder)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{css}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="soft">{escape(line)}</p>
{body}
<footer>korlm.report, {now or datetime.now():%Y-%m-%d %H:%M}</footer>
</body>
</html>
"""


def write_page(path: Path, page: str) -> None:
    """Writes the page whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with output_errors(path, "output=FILE"), atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def shown(value: float) -> str:
    """A figure as people read it; nothing for nan.

    >>> [shown(value) for value in (52.57668, 1234567.0, 0.5, math.inf, math.nan)]
    ['52.58', '1,234,567', '0.5', '∞', '']
    """
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def pen_mark(pen: LineStyle) -> str:
    """A short stroke of a pen."""
    dash = f' stroke-dasharray="{pen.dash}"' if pen.dash else ""
    return (
        f'<svg class="pen" viewBox="0 0 26 10" aria-hidden="true"><path d="M0 5h26" '
        f'stroke="{pen.color}" stroke-width="3"{dash}/></svg>'
    )


def _labels(runs: Sequence[RunSummary]) -> dict[str, str]:
    """Return the name of a run beside its line: with what sets it apart, if that is little.

    Jobs of a sweep have the settings in their names as a rule.
    """
    keys = [key for key in varying(runs) if key != "name"]
    if len(keys) > MAX_KEYS:
        return {run.name: run.name for run in runs}
    values = {
        run.name: [
            value for key in keys if f"={(value := run.settings.get(key, ''))}" not in run.name
        ]
        for run in runs
    }
    return {name: ", ".join(filter(None, [name, *found])) for name, found in values.items()}


def _value(run: RunSummary, source: str, key: str) -> float:
    return number(run.training, key) if source == "training" else run.figure(source, key)


def _table(runs: Sequence[RunSummary], drawn: Mapping[str, LineStyle]) -> str:
    """A row for each run: the settings in which they differ, figures, what is missing."""
    keys = varying(runs)
    same_tokens, same_text = comparable(runs, *TOKENS), comparable(runs, "num_chars")
    columns = [
        column
        for column in FIGURES
        if any(not math.isnan(_value(run, column[1], column[2])) for run in runs)
    ]
    best = {
        name: min((_value(run, source, key) for run in runs), key=lambda v: (math.isnan(v), v))
        for name, source, key, less, tokens in columns
        if less and len(runs) > 1 and (same_tokens if tokens else same_text)
    }
    troubled = any(run.problems for run in runs)
    few = len(keys) <= MAX_KEYS
    named = [f"<th>{escape(key)}</th>" for key in keys]
    head = [f'<th class="number">{name}</th>' for name, *_ in columns]
    head = ["<th>run</th>", *(named + head if few else head + named)]
    rows = [f"<tr>{''.join(head)}{'<th>not there</th>' * troubled}</tr>"]
    for run in runs:
        figures = []
        for name, source, key, *_ in columns:
            value = _value(run, source, key)
            mark = " best" if value == best.get(name) else ""
            figures.append(f'<td class="number{mark}">{shown(value)}</td>')
        cells = [f'<td class="text">{escape(run.settings.get(key, ""))}</td>' for key in keys]
        cells = cells + figures if few else figures + cells
        cells.insert(0, f'<td class="name">{pen_mark(drawn[run.name])}{escape(run.name)}</td>')
        problem = f'<td class="problem">{"<br>".join(map(escape, run.problems))}</td>' * troubled
        rows.append(f"<tr>{''.join(cells)}{problem}</tr>")
    note = "" if same_tokens else f'<p class="soft">{OTHER_TOKENS if same_text else OTHER_TEXT}</p>'
    return f'<h2>Runs</h2>\n<div class="wide"><table>\n{chr(10).join(rows)}\n</table></div>{note}'


def _legend(names: Mapping[str, LineStyle]) -> str:
    """Which stroke is whose; none is needed for a single line."""
    if len(names) < 2:
        return ""
    marks = "".join(f"<span>{pen_mark(pen)}{escape(name)}</span>" for name, pen in names.items())
    return f'<div class="legend">{marks}</div>'


def _curves(
    runs: Sequence[RunSummary], drawn: Mapping[str, LineStyle], labels: Mapping[str, str]
) -> str:
    tags = ("loss/train", "loss/valid", "train/lr")
    with_points = [run for run in runs if any(run.curve(tag) for tag in tags)]
    if not with_points:
        return ""
    used = {labels[run.name]: drawn[run.name] for run in with_points}
    train, valid, rates = ([run.curve(tag) for run in with_points] for tag in tags)
    counted = [run.is_counted for run in with_points]
    picture = draw_curves(train, valid, rates, list(used.values()), counted)
    return f"<h2>Training</h2>\n{_legend(used)}\n{picture}"


def _breakdowns(runs: Sequence[RunSummary], labels: Mapping[str, str]) -> str:
    """Perplexity by frequency and place: of several runs as each was trained, of one every way."""
    texts = list(dict.fromkeys(text for run in runs for text in run.evaluation))
    parts = []
    for text in texts:
        lines = {}
        for run in runs:
            rows = run.evaluation.get(text)
            rows = rows if isinstance(rows, Mapping) else {}
            for row in list(rows) if len(runs) == 1 else list(rows)[:1]:
                name = row if len(runs) == 1 else f"{labels[run.name]} ({row})"
                groups = tuple(_groups(rows[row], key) for key in ("bands", "positions"))
                if any(groups):
                    lines[name] = groups
        if lines:
            used = dict(zip(lines, pens(len(lines)), strict=True))
            bands, places = zip(*lines.values(), strict=True)
            picture = draw_groups(bands, places, list(used.values()))
            parts.append(f"<h3>{escape(text)}</h3>\n{_legend(used)}\n{picture}")
    return "\n".join(["<h2>Where the text is hard</h2>", *parts]) if parts else ""


def _groups(figures: object, key: str) -> dict[str, float]:
    """Group -> perplexity, of the groups that hold a token."""
    groups = figures.get(key) if isinstance(figures, Mapping) else None
    if not isinstance(groups, Mapping):
        return {}
    found = {name: number(group, "perplexity") for name, group in groups.items()}
    return {name: value for name, value in found.items() if math.isfinite(value) and value > 0}


def _samples(
    runs: Sequence[RunSummary], drawn: Mapping[str, LineStyle], labels: Mapping[str, str]
) -> str:
    """The last text that each model wrote in training."""
    parts = []
    for run in runs:
        if run.told.sample:
            step, text = run.told.sample
            text = re.sub(r"\s*\n\s*", "\n", text).strip()
            text = text[:MAX_SAMPLE] + "…" * (len(text) > MAX_SAMPLE)
            mark = pen_mark(drawn[run.name]) if len(runs) > 1 else ""
            head = f'{mark}{escape(labels[run.name])} <span class="soft">step {step:,}</span>'
            parts.append(f"<h3>{head}</h3>\n<blockquote>{escape(text)}</blockquote>")
    return "\n".join(["<h2>Text the models wrote</h2>", *parts]) if parts else ""


def _settings(runs: Sequence[RunSummary]) -> str:
    """All settings of each run, folded away."""
    parts = []
    for run in runs:
        rows = "\n".join(
            f'<tr><td><code>{escape(key)}</code></td><td class="text"><code>{escape(value)}</code>'
            "</td></tr>"
            for key, value in run.settings.items()
        )
        if rows:
            parts.append(
                f"<details><summary>{escape(run.name)}</summary>\n<table>\n{rows}\n</table></details>"
            )
    return "\n".join(["<h2>Settings</h2>", *parts]) if parts else ""
