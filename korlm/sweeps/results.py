"""Read the results of a sweep from the folders of its jobs, and build one table.

Only files that the jobs wrote are read (``.hydra/overrides.yaml``, ``metrics.json``,
``training.json``, ``failed.txt``): it does not matter where and when the jobs ran.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korlm.config.metrics import (
    all_metrics,
    cost,
    is_larger_better,
    is_per_token,
    objective_value,
)
from korlm.config.stored import read_json
from korlm.runs.directories import FAILED
from korlm.sweeps.folder import iter_jobs
from korlm.utils.errors import CheckpointError, reason_of
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.tables import rounded, text_table, tsv_cell

MetricPath = tuple[str, ...]  # file, and keys that lead to the metric in it

# Keys of training.json in the table.
TRAINING_COLUMNS = (
    *("num_parameters", "tokens_per_second", "examples_per_second", "labels_per_second"),
    "seconds",
)

# Settings of tokenizers that do not change tokens.
SPEED_SETTINGS = tuple(
    f"tokenizer.{key}" for key in ("workers", "threads", "heap_mb", "cache_size_mb")
)
MAX_SHOWN = 60  # largest number of jobs in the printed table


def changes_tokens(key: str) -> bool:
    """Return True if a setting changes the tokens, and so what metrics per token mean.

    >>> [changes_tokens(key) for key in ("tokenizer", "vocab.size", "tokenizer.workers", "seed")]
    [True, True, False, False]
    """
    return key.partition(".")[0] in ("tokenizer", "vocab") and key not in SPEED_SETTINGS


@dataclass(frozen=True)
class JobResult:
    """Settings and results of one job.

    Attributes:
        overrides: key -> value of the job's settings, as typed.
        metrics: column -> value, of metrics that the job has; infinite where metrics.json has null.
        failure: why the job has no results, in one line; empty if it has results.
        tokens: key that is equal for jobs with the same tokens; empty for tasks without metrics
            per token.
    """

    name: str
    overrides: dict[str, str]
    metrics: dict[str, float]
    failure: str
    tokens: tuple[Any, ...] = ()

    @property
    def is_pruned(self) -> bool:
        """Return True if a search pruned this job."""
        return is_pruned(self.failure)

    def order(self, objective: str) -> tuple[int, float, int, str]:
        """Return a sort key: finished jobs first, the best foremost, then pruned, then failed."""
        value = cost(objective, self.metrics.get(column_of(objective)))
        rank = bool(self.failure) * (1 if self.is_pruned else 2)
        return (rank, value, len(self.name), self.name)


def is_pruned(failure: str) -> bool:
    """Return True if the failure of a job is that a search pruned it."""
    return failure.startswith("pruned at step ")


def finished_cost(objective: str, job: Path) -> float:
    """Return the cost of a finished job; ``CheckpointError`` if metrics.json is damaged."""
    path = job / "metrics.json"
    try:
        return cost(objective, objective_value(objective, read_json(path)))
    except (OSError, ValueError, AttributeError, TypeError, OverflowError) as error:
        raise CheckpointError(damaged_metrics(path, error)) from error


def note_failure(folder: Path, error: Exception) -> None:
    """Write the reason of a failure into the folder of a job, if the disk is not full."""
    # An error of writing would hide the error of the job.
    with contextlib.suppress(OSError), atomic_write(folder / FAILED) as temporary:
        temporary.write_text(reason_of(error) + "\n", encoding="utf-8")


def column_of(objective: str) -> str:
    """Return the column of a metric.

    >>> column_of("valid.perplexity")
    'valid_perplexity'
    """
    return objective.replace(".", "_")


def metric_columns() -> dict[str, MetricPath]:
    """Return column of the table -> its metric; a column that no job has is not shown."""
    columns: dict[str, MetricPath] = {
        f"{split}_{metric.key}": ("metrics.json", split, metric.key)
        for metric in all_metrics()
        for split in metric.sweep
    }
    return columns | {key: ("training.json", key) for key in TRAINING_COLUMNS}


def read_jobs(folder: Path, objective: str = "valid.perplexity") -> list[JobResult]:
    """Return all jobs of a sweep, best first."""
    split = objective.partition(".")[0]
    # The objective, and the metrics that replace it if the jobs' tokens differ.
    names = (objective, f"{split}.bits_per_char", f"{split}.exact_match")
    wanted = metric_columns() | {
        column_of(name): ("metrics.json", *name.split(".")) for name in names
    }
    jobs = [_read_job(job, settings, wanted) for job, settings in iter_jobs(folder)]
    used = comparable_objective(jobs, objective)
    return sorted(jobs, key=lambda job: job.order(used))


def comparable_objective(jobs: Sequence[JobResult], objective: str) -> str:
    """Return the objective, or another metric of its split if it is per token and tokens differ.

    The other metric is bits per character, or exact match for task=seq2seq.
    """
    split, _, key = objective.partition(".")
    tokens = {job.tokens for job in jobs if not job.failure}
    if not is_per_token(key) or len(tokens) <= 1:
        return objective
    is_seq2seq = any(f"{split}_exact_match" in job.metrics for job in jobs)
    return f"{split}.exact_match" if is_seq2seq else f"{split}.bits_per_char"


def _read_job(
    folder: Path, settings: dict[str, str], wanted: Mapping[str, MetricPath]
) -> JobResult:
    """Return a job, given its folder, its settings, and the columns to read."""
    files: dict[str, dict[str, Any]] = {}
    failure = ""
    for name in ("training.json", "metrics.json"):
        try:
            files[name] = read_json(folder / name) if (folder / name).exists() else {}
        except (OSError, ValueError) as error:
            files[name] = {}
            failure = damaged_metrics(folder / name, error) if name == "metrics.json" else ""
    metrics = {}
    for column, (name, *keys) in wanted.items():
        value: Any = files[name]
        for key in keys:
            value = value.get(key, math.nan) if isinstance(value, dict) else math.nan
        if value is None and not is_larger_better(keys[-1]):
            value = math.inf
        if isinstance(value, int) and abs(value) > sys.float_info.max:  # the file is damaged
            value = math.inf
        if isinstance(value, (int, float)) and not math.isnan(value):
            metrics[column] = value
    if not files["metrics.json"] and not failure:
        failed = folder / FAILED
        reason = failed.read_text("utf-8", "replace").strip() if failed.exists() else ""
        failure = reason or "not finished"
    valid = files["metrics.json"].get("valid")
    counts = valid if isinstance(valid, dict) else {}
    if "num_examples" in counts and "num_tokens" not in counts:  # no metrics per token
        return JobResult(folder.name, settings, metrics, failure)
    tokens = (str(counts.get("num_tokens")), str(counts.get("num_unk")))
    choice = (pair for pair in settings.items() if changes_tokens(pair[0]))
    return JobResult(folder.name, settings, metrics, failure, (*tokens, *sorted(choice)))


def damaged_metrics(path: Path, error: Exception) -> str:
    """Return a message about a damaged file of metrics, with advice."""
    return f"{path}: damaged ({error}); delete it and resume the sweep: the job will run again"


def varying(jobs: Sequence[JobResult]) -> list[str]:
    """Return the settings in which the jobs differ."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def build_rows(
    jobs: Sequence[JobResult], objective: str = "valid.perplexity"
) -> list[list[str | float]]:
    """Return the table: a header and one row per job.

    Columns are the settings in which the jobs differ, the metrics with the objective first, and the
    names of the jobs' folders.

    >>> build_rows([JobResult("0", {"seed": "1", "name": "a"}, {"valid_perplexity": 7.0}, ""),
    ...             JobResult("1", {"seed": "2", "name": "a"}, {}, "the disk is full")])
    ... # doctest: +NORMALIZE_WHITESPACE
    [['seed', 'valid_perplexity', 'job', 'failure'],
     ['1', 7.0, '0', ''],
     ['2', '', '1', 'the disk is full']]
    """
    keys = varying(jobs)
    columns = [
        column
        for column in dict.fromkeys((column_of(objective), *metric_columns()))
        if any(column in job.metrics for job in jobs)
    ]
    failures = ["failure"] if any(job.failure for job in jobs) else []
    rows: list[list[str | float]] = [[*keys, *columns, "job", *failures]]
    for job in jobs:
        settings = [job.overrides.get(key, "") for key in keys]
        metrics = [job.metrics.get(column, "") for column in columns]
        rows.append([*settings, *metrics, job.name, *([job.failure] if failures else [])])
    return rows


def printed_table(rows: Sequence[Sequence[str | float]]) -> str:
    """Return the table for a terminal, rounded and with right-aligned numbers."""
    columns = zip(*rows[1:], strict=True)
    texts = [at for at, column in enumerate(columns) if all(isinstance(v, str) for v in column)]
    cells = [[tsv_cell(v) if isinstance(v, str) else rounded(v) for v in row] for row in rows]
    return text_table(cells, left=texts)
