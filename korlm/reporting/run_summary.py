"""Summarize run directories for the report, without loading checkpoints or prepared corpora.

If a file is missing or damaged, that is noted as a problem of the run, and other files are read.
"""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from korlm.config.keys import rename_override, rename_tree
from korlm.config.metrics import (
    LANGUAGE_MODELING,
    TOKEN_COUNTS,
    cost,
    default_objective,
    is_larger_better,
)
from korlm.config.paths import run_directory
from korlm.config.serialization import as_typed, dotted_items
from korlm.config.stored import read_json, read_yaml, values_of
from korlm.reporting.tensorboard_events import Curve, TensorBoardData, read_events
from korlm.runs.directories import FAILED
from korlm.runs.trained_run import short_names
from korlm.utils.errors import ConfigError

RUN_FILES = (".hydra", "tensorboard", "metrics.json", "training.json")  # a run has one of them
HIDDEN_SETTINGS = ("resume", "outputs")  # settings of the command rather than of the run


@dataclass(frozen=True)
class RunSummary:
    """Content of a run directory.

    Attributes:
        settings: dotted key -> value as text; empty if unknown.
        metrics: split -> metrics; empty if the run is not finished.
        evaluation: text -> mode -> metrics, of the latest evaluation.
        problems: one line for each missing or damaged file.
    """

    name: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    tensorboard: TensorBoardData = field(default_factory=TensorBoardData)
    problems: tuple[str, ...] = ()

    @property
    def is_ngram(self) -> bool:
        """Return True for an n-gram model, whose metrics do not depend on the step."""
        return self.settings.get("model.name") == "ngram"

    @property
    def task(self) -> str:
        """Return the name of the task."""
        return self.settings.get("task.name", LANGUAGE_MODELING)

    @property
    def kind(self) -> str:
        """Return the task, or TASK of LABELS; only runs of the same kind can be compared."""
        labels = self.settings.get("task.labels")  # only for tagging: spans, tags or spaces
        return f"{self.task} of {labels}" if labels else self.task

    def metric(self, source: str, key: str) -> float:
        """Return a metric of a split, or of training.json for ``"training"``; nan if missing."""
        value = number(self.training if source == "training" else self.metrics.get(source), key)
        return math.nan if value == math.inf and is_larger_better(key) else value

    def curve(self, tag: str) -> Curve:
        """Return the points of a tag that have finite values."""
        return [p for p in self.tensorboard.curves.get(tag, []) if math.isfinite(p[1])]


def number(metrics: Any, key: str) -> float:
    """Return a number from JSON: infinity for null, nan if missing.

    >>> number({"loss": 2, "perplexity": None}, "perplexity"), number({}, "loss")
    (inf, nan)
    """
    value = metrics.get(key, math.nan) if isinstance(metrics, Mapping) else math.nan
    value = math.inf if value is None else value
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.inf


def find_runs(patterns: Sequence[str]) -> dict[str, Path]:
    """Return name -> run directory, without duplicates.

    Args:
        patterns: run directories, or globs, of which only matches that are runs count.
    """
    folders: dict[Path, Path] = {}
    for pattern in patterns:
        is_glob = glob.has_magic(pattern) and not Path(pattern).exists()
        paths = sorted(glob.glob(pattern, recursive=True)) if is_glob else [pattern]
        candidates = dict.fromkeys(run_directory(Path(path)) for path in paths)
        runs = [run for run in candidates if any((run / name).exists() for name in RUN_FILES)]
        if not runs:
            reason = "matches no run" if is_glob else f"not a run: has no {', '.join(RUN_FILES)}"
            raise ConfigError(f"runs={pattern}: {reason}; give outputs/runs/<date>_<time>")
        folders |= {run.resolve(): run for run in runs}
    unique = list(folders.values())
    return dict(zip(short_names(unique), unique, strict=True))


def find_jobs(sweep: Path) -> dict[str, Path]:
    """Return name -> directory of each job of a sweep."""
    jobs = [path.parent for path in sweep.glob("*/.hydra") if path.is_dir()]
    if not jobs:
        raise ConfigError(
            f"sweep={sweep}: contains no jobs; give outputs/sweeps/<date>_<time>, the folder of a "
            "command with -m; for a single run use 'runs=[DIR]'"
        )
    jobs.sort(key=lambda job: (len(job.name), job.name))
    return {job.name: job for job in jobs}


def read_run(folder: Path, name: str) -> RunSummary:
    """Read a run directory, as far as its files exist and are valid."""
    problems: list[str] = []
    tensorboard = read_events(folder / "tensorboard")
    metrics = _read_metrics(folder / "metrics.json", problems)
    failed = folder / FAILED
    if not metrics and not problems:
        reason = failed.read_text("utf-8", "replace") if failed.is_file() else ""
        is_empty = (folder / "metrics.json").is_file()
        why = "metrics.json has no metrics" if is_empty else "not finished: no metrics.json"
        problems.append(" ".join(reason.split())[:500] or why)
    training = _read_metrics(folder / "training.json", problems)
    evaluations = sorted(folder.glob("evaluations/*/metrics.json"))
    evaluation = _read_metrics(evaluations[-1], problems) if evaluations else {}
    settings = _read_settings(folder / ".hydra", problems)
    if tensorboard.problem:
        problems.append(tensorboard.problem)
    return RunSummary(
        name, folder, settings, metrics, training, evaluation, tensorboard, tuple(problems)
    )


def _read_metrics(path: Path, problems: list[str]) -> dict[str, Any]:
    """Return a JSON object, empty if the file is missing or damaged; add damage to ``problems``."""
    if not path.is_file():
        return {}
    try:
        return read_json(path)
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}")
    except ValueError:
        problems.append(f"{path.name} is damaged: not a JSON object")
    return {}


def _read_settings(hydra: Path, problems: list[str]) -> dict[str, str]:
    """Return the settings of a run, with overrides that were given when it was resumed."""
    settings: dict[str, str] = {}
    try:
        tree = read_yaml(hydra / "config.yaml")
        settings = flatten(rename_tree(tree)) if isinstance(tree, dict) else {}
        for path in sorted(hydra.glob("resumed_*/overrides.yaml")):
            overrides = [rename_override(str(override)) for override in read_yaml(path)]
            settings |= flatten(values_of(overrides))
    except FileNotFoundError:
        problems.append("no .hydra/config.yaml: settings are unknown")
    except (OSError, ValueError, TypeError):
        problems.append("the settings in .hydra are damaged")
    return {key: value for key, value in settings.items() if key not in HIDDEN_SETTINGS}


def flatten(tree: Mapping[Any, Any]) -> dict[str, str]:
    """Return nested settings as dotted keys with values as they are typed.

    >>> flatten({"model": {"name": "lstm", "tie_weights": True}, "name": None})
    {'model.name': 'lstm', 'model.tie_weights': 'true', 'name': 'null'}
    """
    return {
        key: ", ".join(map(str, value)) if isinstance(value, list) else as_typed(value)
        for key, value in dotted_items(tree)
    }


def differing_settings(runs: Sequence[RunSummary]) -> list[str]:
    """Return the keys that have different values; a key that some runs lack is not a difference.

    >>> lstm = {"model.name": "lstm", "model.forget_bias": "1", "seed": "1"}
    >>> a = RunSummary("a", Path("a"), lstm)
    >>> b = RunSummary("b", Path("b"), {"model.name": "gru", "seed": "1"})
    >>> differing_settings([a, b])
    ['model.name']
    """
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.settings.items():
            values.setdefault(key, set()).add(value)
    return [key for key, distinct in values.items() if len(distinct) > 1]


def comparable(runs: Sequence[RunSummary], *counts: str) -> bool:
    """Return True if all finished runs have the same counts on valid.

    If numbers of tokens, unknown tokens and characters are equal, the tokenized texts count as
    equal, whatever the paths and settings are.
    """
    values = {tuple(run.metric("valid", key) for key in counts) for run in runs if run.metrics}
    return len(values) <= 1


def by_kind(runs: Sequence[RunSummary]) -> dict[str, list[RunSummary]]:
    """Return kind -> its runs, in the given order."""
    groups: dict[str, list[RunSummary]] = {}
    for run in runs:
        groups.setdefault(run.kind, []).append(run)
    return groups


def objective_of(runs: Sequence[RunSummary]) -> str:
    """Return the metric by which runs of one kind are sorted, as SPLIT.KEY.

    For language models, it is perplexity, or bits per character if perplexities cannot be compared.
    For other tasks, it is the objective if all runs have the same, else the default of the task.
    """
    if runs[0].task == LANGUAGE_MODELING:
        same = comparable(runs, *TOKEN_COUNTS)
        return "valid.perplexity" if same else "valid.bits_per_char"
    given = {run.settings.get("objective", "") for run in runs}
    name = given.pop() if len(given) == 1 else ""
    is_plain = re.fullmatch(r"(valid|test)\.\w+", name)  # its default is an interpolation
    return name if is_plain else default_objective(runs[0].task)


def best_first(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Return the runs kind by kind, the best by ``objective_of`` first, those without it last."""

    def order(run: RunSummary, objective: str) -> tuple[bool, float]:
        split, _, key = objective.partition(".")
        value = run.metric(split, key)
        return (math.isnan(value), cost(objective, value))

    groups = ((group, objective_of(group)) for group in by_kind(runs).values())
    return [
        run for group, name in groups for run in sorted(group, key=lambda run: order(run, name))
    ]
