"""Run directories -> what the page tells of them. Opens no checkpoint and no prepared corpus.

All files are somebody's: what is missing or damaged is told, and the rest is shown all the same.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from korlm.config.paths import run_directory
from korlm.config.renamed import rename_override, rename_tree
from korlm.config.stored import read_json, read_yaml
from korlm.reporting.tensorboard_events import Curve, TensorBoardData, read_events
from korlm.runs.directories import FAILED
from korlm.runs.trained_run import short_names
from korlm.utils.errors import ConfigError

MARKS = (".hydra", "tensorboard", "metrics.json", "training.json")  # each tells a run directory


HIDDEN_SETTINGS = ("resume", "outputs")  # settings of the command rather than of the run


TOKENS = ("num_tokens", "num_unk", "num_chars")  # counts that are the same for the same tokens


LARGEST = 32 << 20  # bytes of a file of figures; real ones have thousands


@dataclass(frozen=True)
class RunSummary:
    """What a run left behind.

    Attributes:
        name: that tells it from the others.
        folder: its directory.
        settings: dotted key -> value as text; empty if they are not known.
        metrics: split -> its figures; empty if the run is not finished.
        training: figures of training.json.
        evaluation: text -> row -> figures, of the latest evaluation.
        told: what it wrote for TensorBoard.
        problems: what is missing, a line each.
    """

    name: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    told: TensorBoardData = field(default_factory=TensorBoardData)
    problems: tuple[str, ...] = ()

    @property
    def is_counted(self) -> bool:
        """Whether it is an n-gram model, whose figures do not change from step to step."""
        return self.settings.get("model.name") == "ngram"

    def figure(self, split: str, key: str) -> float:
        """A figure of a split; nan if there is none."""
        return number(self.metrics.get(split), key)

    def curve(self, tag: str) -> Curve:
        """The points of a tag that can be drawn."""
        return [point for point in self.told.curves.get(tag, []) if math.isfinite(point[1])]


def number(figures: Any, key: str) -> float:
    """A figure by its key: infinite where JSON has null, nan where there is none.

    >>> number({"loss": 2, "perplexity": None}, "perplexity"), number({}, "loss")
    (inf, nan)
    """
    value = figures.get(key, math.nan) if isinstance(figures, Mapping) else math.nan
    value = math.inf if value is None else value
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.inf


def find_runs(places: Sequence[str]) -> dict[str, Path]:
    """Name -> run directory, each once.

    Args:
        places: directories, or globs, of whose matches those count that are runs.

    Raises:
        ConfigError: a directory that is no run, a glob that matches none.
    """
    found: dict[Path, Path] = {}
    for place in places:
        is_glob = glob.has_magic(place) and not Path(place).exists()
        found_paths = sorted(glob.glob(place, recursive=True)) if is_glob else [place]
        matches = dict.fromkeys(run_directory(Path(path)) for path in found_paths)
        folders = [match for match in matches if any((match / mark).exists() for mark in MARKS)]
        if not folders:
            reason = "matches no run" if is_glob else f"no run: holds none of {', '.join(MARKS)}"
            raise ConfigError(f"runs={place}: {reason}; give outputs/runs/<date>_<time>")
        found |= {folder.resolve(): folder for folder in folders}
    runs = list(found.values())
    return dict(zip(short_names(runs), runs, strict=True))


def jobs_of(sweep: Path) -> dict[str, Path]:
    """Name -> directory of each job of a sweep.

    Raises:
        ConfigError: there is none.
    """
    jobs = [path.parent for path in sweep.glob("*/.hydra") if path.is_dir()]
    if not jobs:
        raise ConfigError(
            f"sweep={sweep}: no job in there; give outputs/sweeps/<date>_<time>, the folder of a "
            "command with -m; a single run is told of with 'runs=[DIR]'"
        )
    jobs.sort(key=lambda job: (len(job.name), job.name))
    return {job.name: job for job in jobs}


def read_run(folder: Path, name: str) -> RunSummary:
    """Reads what a run left behind, as far as it goes."""
    problems: list[str] = []
    told = read_events(folder / "tensorboard")
    metrics = _figures(folder / "metrics.json", problems)
    failed = folder / FAILED
    if not metrics and not problems:
        reason = failed.read_text("utf-8", "replace").strip()[:500] if failed.is_file() else ""
        problems.append(reason or "not finished: no metrics.json")
    training = _figures(folder / "training.json", problems)
    evaluations = sorted(folder.glob("evaluations/*/metrics.json"))
    evaluation = _figures(evaluations[-1], problems) if evaluations else {}
    settings = _settings(folder, problems)
    problems += [told.damage] * bool(told.damage)
    return RunSummary(name, folder, settings, metrics, training, evaluation, told, tuple(problems))


def _figures(path: Path, problems: list[str]) -> dict[str, Any]:
    """A file of figures; empty if it is not there or not whole."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("too large")
        return read_json(path)
    except (OSError, ValueError):
        problems.append(f"{path.name} is damaged: it is no JSON object")
        return {}


def _settings(folder: Path, problems: list[str]) -> dict[str, str]:
    """The settings that a run began with, and on top those that it was resumed with."""
    hydra = folder / ".hydra"
    settings: dict[str, str] = {}
    try:
        tree = read_yaml(hydra / "config.yaml")
        settings = flattened(rename_tree(tree)) if isinstance(tree, dict) else {}
        for path in sorted(hydra.glob("resumed_*/overrides.yaml")):
            typed = (rename_override(str(one)).partition("=") for one in read_yaml(path))
            settings |= {key.lstrip("+~"): value for key, _, value in typed}
    except FileNotFoundError:
        problems.append("no .hydra/config.yaml: its settings are not known")
    except (OSError, ValueError, TypeError):
        problems.append("its settings under .hydra are damaged")
    return {key: value for key, value in settings.items() if key not in HIDDEN_SETTINGS}


def flattened(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    """Settings as one level of dotted keys, values as one would type them.

    >>> flattened({"model": {"name": "lstm", "tie_weights": True}, "name": None})
    {'model.name': 'lstm', 'model.tie_weights': 'true', 'name': 'null'}
    """
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, bool):
            found[f"{prefix}{key}"] = {None: "null", True: "true", False: "false"}[value]
        elif isinstance(value, list):
            found[f"{prefix}{key}"] = ", ".join(map(str, value))
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def varying(runs: Sequence[RunSummary]) -> list[str]:
    """The keys of settings in which runs differ; one that only some choices have must differ there.

    >>> lstm = {"model.name": "lstm", "model.forget_bias": "1", "seed": "1"}
    >>> a = RunSummary("a", Path("a"), lstm)
    >>> b = RunSummary("b", Path("b"), {"model.name": "gru", "seed": "1"})
    >>> varying([a, b])
    ['model.name']
    """
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.settings.items():
            values.setdefault(key, set()).add(value)
    return [key for key, found in values.items() if len(found) > 1]


def comparable(runs: Sequence[RunSummary], *counts: str) -> bool:
    """Whether these counts of valid are the same in all runs that have them.

    Equal numbers of tokens, unknown ones and characters are as good as the same text in the same
    tokens, wherever it lay and whatever the settings say.
    """
    found = {tuple(run.figure("valid", key) for key in counts) for run in runs if run.metrics}
    return len(found) <= 1


def best_first(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """By what can be compared on valid; runs without it last."""
    key = "perplexity" if comparable(runs, *TOKENS) else "bits_per_char"

    def order(run: RunSummary) -> tuple[bool, float]:
        value = run.figure("valid", key)
        return (math.isnan(value), 0.0 if math.isnan(value) else value)

    return sorted(runs, key=order)
