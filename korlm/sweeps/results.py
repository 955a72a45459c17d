"""The end of a sweep (-m): one table of its jobs, printed and kept as results.tsv, and a picture.

Knows nothing but what the jobs left in their folders (``.hydra/overrides.yaml``, ``metrics.json``,
``training.json``, ``failed.txt``), so that jobs may have run anywhere and at any time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korlm.config.objective import cost
from korlm.config.stored import read_json
from korlm.runs.directories import FAILED
from korlm.sweeps.folder import (
    found_jobs,
)
from korlm.utils.errors import reason_of
from korlm.utils.io.tables import aligned

Figure = tuple[str, ...]


# Column of the table, file and keys of the figure.
FIGURES: dict[str, Figure] = {
    "valid_perplexity": ("metrics.json", "valid", "perplexity"),
    "test_perplexity": ("metrics.json", "test", "perplexity"),
    "valid_bits_per_char": ("metrics.json", "valid", "bits_per_char"),
    "valid_eojeol_perplexity": ("metrics.json", "valid", "eojeol_perplexity"),
    "num_parameters": ("training.json", "num_parameters"),
    "tokens_per_second": ("training.json", "tokens_per_second"),
    "seconds": ("training.json", "seconds"),
}


# Figures per token: they cannot be compared where the tokens differ.
PER_TOKEN = ("loss", "perplexity", "perplexity_known")


MAX_SHOWN = 60  # jobs in the printed table


@dataclass(frozen=True)
class Job:
    """What a job of a sweep left behind.

    Attributes:
        name: of its folder, as a rule the overrides in which it differs from the others.
        overrides: key -> value of its settings, as typed.
        figures: column -> value of those that there are; infinite where metrics.json has null.
        failure: why it has no figures, in one line; empty if it has.
        tokens: what tells whether another job has the same tokens.
    """

    name: str
    overrides: dict[str, str]
    figures: dict[str, float]
    failure: str
    tokens: tuple[Any, ...] = ()

    @property
    def is_pruned(self) -> bool:
        """Whether a search has ended it early."""
        return self.failure.startswith("pruned at step ")

    def order(self, objective: str) -> tuple[int, float, int, str]:
        """The best first, then those that were pruned, failures last."""
        value = cost(objective, self.figures.get(column_of(objective)))
        rank = bool(self.failure) * (1 if self.is_pruned else 2)
        return (rank, value, len(self.name), self.name)


def note_failure(folder: Path, error: Exception) -> None:
    """Leaves the reason of a failed job in its folder."""
    (folder / FAILED).write_text(reason_of(error) + "\n", encoding="utf-8")


def column_of(objective: str) -> str:
    """The column of a figure of metrics.json.

    >>> column_of("valid.perplexity")
    'valid_perplexity'
    """
    return objective.replace(".", "_")


def read_jobs(folder: Path, objective: str = "valid.perplexity") -> list[Job]:
    """All jobs of a sweep, the best first.

    Args:
        folder: of the sweep.
        objective: SPLIT.KEY of metrics.json.
    """
    wanted = {**FIGURES, column_of(objective): ("metrics.json", *objective.split("."))}
    jobs = [_read_job(job, settings, wanted) for job, settings in found_jobs(folder)]
    used = comparable(jobs, objective)
    return sorted(jobs, key=lambda job: job.order(used))


def comparable(jobs: Sequence[Job], objective: str) -> str:
    """The objective, or bits per character of its split where the jobs' tokens differ."""
    split, _, key = objective.partition(".")
    tokens = {job.tokens for job in jobs if not job.failure}
    return f"{split}.bits_per_char" if key in PER_TOKEN and len(tokens) > 1 else objective


def _read_job(folder: Path, settings: dict[str, str], wanted: Mapping[str, Figure]) -> Job:
    files: dict[str, dict[str, Any]] = {}
    failure = ""
    for name in ("training.json", "metrics.json"):
        try:
            files[name] = read_json(folder / name) if (folder / name).exists() else {}
        except (OSError, ValueError) as error:
            files[name] = {}
            failure = damaged_figures(folder / name, error) if name == "metrics.json" else ""
    figures = {}
    for column, (name, *keys) in wanted.items():
        value: Any = files[name]
        for key in keys:
            value = value.get(key, math.nan) if isinstance(value, dict) else math.nan
        if value is None or (isinstance(value, (int, float)) and not math.isnan(value)):
            figures[column] = math.inf if value is None else value
    if not files["metrics.json"] and not failure:
        failed = folder / FAILED
        failure = (
            failed.read_text("utf-8", "replace").strip() if failed.exists() else "not finished"
        )
    valid = files["metrics.json"].get("valid")
    counts = valid if isinstance(valid, dict) else {}
    tokens = (str(counts.get("num_tokens")), str(counts.get("num_unk")))
    choice = (pair for pair in settings.items() if pair[0].startswith(("tokenizer", "vocab")))
    return Job(folder.name, settings, figures, failure, (*tokens, *sorted(choice)))


def damaged_figures(path: Path, error: Exception) -> str:
    """Return what to do about a file of figures that cannot be read, in one line."""
    return f"{path}: damaged ({error}); delete it, and go on with the sweep: the job is done again"


def varying(jobs: Sequence[Job]) -> list[str]:
    """The settings in which the jobs differ."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def build_rows(jobs: Sequence[Job], objective: str = "valid.perplexity") -> list[list[str | float]]:
    """Build the table: a head, and a row for each job.

    The settings in which the jobs differ come first, then the figures, of which the objective is
    the first one, then the names of the jobs' folders.

    >>> build_rows([Job("0", {"seed": "1", "name": "a"}, {"valid_perplexity": 7.0}, ""),
    ...             Job("1", {"seed": "2", "name": "a"}, {}, "the disk is full")])
    ... # doctest: +NORMALIZE_WHITESPACE
    [['seed', 'valid_perplexity', 'job', 'failure'],
     ['1', 7.0, '0', ''],
     ['2', '', '1', 'the disk is full']]
    """
    keys = varying(jobs)
    columns = [
        column
        for column in dict.fromkeys((column_of(objective), *FIGURES))
        if any(column in job.figures for job in jobs)
    ]
    failures = ["failure"] if any(job.failure for job in jobs) else []
    rows: list[list[str | float]] = [[*keys, *columns, "job", *failures]]
    for job in jobs:
        settings = [job.overrides.get(key, "") for key in keys]
        figures = [job.figures.get(column, "") for column in columns]
        rows.append([*settings, *figures, job.name, *([job.failure] if failures else [])])
    return rows


def _cell(value: str | float) -> str:
    """As results.tsv has it: numbers in full."""
    return " ".join(value.split()) if isinstance(value, str) else str(value)


def _shown(rows: Sequence[Sequence[str | float]]) -> str:
    """As people read it: rounded, in columns, numbers to the right."""
    columns = zip(*rows[1:], strict=True)
    texts = [at for at, column in enumerate(columns) if all(isinstance(v, str) for v in column)]
    cells = [[_rounded(value) for value in row] for row in rows]
    return "\n".join(line.rstrip() for line in aligned(cells, left=texts))


def _rounded(value: str | float) -> str:
    if isinstance(value, str):
        return _cell(value)
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
