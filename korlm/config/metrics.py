"""Declare the metrics of metrics.json: what each is, and where it is shown.

A task registers its metrics, the most important first. Objectives and tables of sweeps, pruning,
TensorBoard, the intervals of korlm.evaluate, the report and model cards follow these declarations;
a new metric needs one, and the code that computes it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from korlm.utils.errors import ConfigError

SPLITS = ("train", "valid", "test")
LANGUAGE_MODELING = "language_modeling"  # the default task

TOKEN_COUNTS = ("num_tokens", "num_unk", "num_chars")  # these are equal if the tokens are equal
CHARS, EXAMPLES = ("num_chars",), ("num_examples",)

_ANY = "TYPE"  # the last part of a key that stands for several


@dataclass(frozen=True)
class Metric:
    """A metric of a task.

    Attributes:
        key: its key in metrics.json; ``f1_TYPE`` stands for a metric of each type.
        label: its name in tables; empty: the key with blanks.
        spec: format of its value in the tables of korlm.evaluate.
        larger_is_better: whether larger values are better.
        is_quality: whether it measures the quality of the model; other metrics describe the text or
            the evaluation itself.
        counts: metrics that must be equal in two runs for this one to be compared between them.
        has_interval: whether korlm.evaluate compares it, for tasks of separate examples.
        charts: splits of TensorBoard: all of them as NAME/SPLIT, or only valid as quality/NAME.
        sweep: splits that have a column in the table of a sweep.
        in_report: whether the report shows it.
    """

    key: str
    label: str = ""
    spec: str = ".4f"
    larger_is_better: bool = False
    is_quality: bool = True
    counts: tuple[str, ...] = ()
    has_interval: bool = False
    charts: tuple[str, ...] = ()
    sweep: tuple[str, ...] = ()
    in_report: bool = True

    @property
    def title(self) -> str:
        """Return its name for people."""
        return self.label or self.key.replace("_", " ")

    def shown(self, value: float) -> str:
        """Return a value as text.

        >>> Metric("oov_rate", spec=".1%").shown(0.0767)
        '7.7 %'
        """
        return format(value, self.spec).replace("%", " %")

    def has_key(self, key: str) -> bool:
        """Return whether this is the metric of a key."""
        return (
            key.startswith(self.key[: -len(_ANY)]) if self.key.endswith(_ANY) else key == self.key
        )


_registered: dict[str, tuple[Metric, ...]] = {}  # by task


def register_metrics(task: str, *metrics: Metric) -> None:
    """Register the metrics of a task, the most important first.

    The first one is the default objective of sweeps, on valid. A key that tasks share has one
    direction.

    Raises:
        ConfigError: a key is registered with another direction.
    """
    for metric in metrics:
        if any(other.larger_is_better != metric.larger_is_better for other in _find(metric.key)):
            raise ConfigError(
                f"metric {metric.key} of task={task}: another task has registered it with another "
                "larger_is_better; choose another name"
            )
    _registered[task] = metrics


def metrics_of(task: str) -> tuple[Metric, ...]:
    """Return the metrics of a task; a loss if it has registered none."""
    return _registered.get(task, (Metric("loss", counts=EXAMPLES, charts=SPLITS),))


def all_metrics() -> list[Metric]:
    """Return the metrics of all tasks, one for each key."""
    first: dict[str, Metric] = {}
    for metric in chain.from_iterable(_registered.values()):
        first.setdefault(metric.key, metric)
    return list(first.values())


def metric_of(key: str, task: str = "") -> Metric:
    """Return the metric of a key, preferably as a task has registered it.

    If no task has, nothing is known of it.
    """
    known = (m for m in metrics_of(task) if m.has_key(key))
    return dataclasses.replace(next(known, None) or next(_find(key), Metric(key)), key=key)


def _find(key: str) -> Iterator[Metric]:
    return (m for m in chain.from_iterable(_registered.values()) if m.has_key(key))


def is_per_token(key: str) -> bool:
    """Return whether a metric cannot be compared between models with different tokens.

    >>> is_per_token("loss"), is_per_token("bits_per_char")
    (True, False)
    """
    return any("num_tokens" in metric.counts for metric in _find(key))


def default_objective(task: str) -> str:
    """Return the objective of a task if the settings name none."""
    return f"valid.{metrics_of(task)[0].key}"


def is_larger_better(key: str) -> bool:
    """Return whether a larger value of a metric is better.

    >>> is_larger_better("accuracy"), is_larger_better("loss"), is_larger_better("f1_PS")
    (True, False, True)
    """
    return metric_of(key).larger_is_better


def check_objective(name: str, task: str | None = None) -> None:
    """Check the name of an objective.

    Some metrics are missing in some runs, for example those of test without a test split.

    Args:
        name: SPLIT.KEY of the metric.
        task: name of the task. None, or a task that has registered no metrics: the metric may be
            one of any task, since the direction of others is not known.

    Raises:
        ConfigError: metrics.json has no such metric.
    """
    known = _registered.get(task or "") or all_metrics()
    split, _, key = name.partition(".")
    if split not in SPLITS or not any(metric.has_key(key) for metric in known):
        keys = [metric.key for metric in known]
        near = difflib.get_close_matches(key or name, keys, n=1)
        near_split = split if split in SPLITS else "valid"
        hint = f"; did you mean {near_split}.{near[0]}?" if near else ""
        of_task = f" of task={task}" if task and task != LANGUAGE_MODELING else ""
        raise ConfigError(
            f"objective={name}: must be SPLIT.KEY of metrics.json{of_task}, such as "
            f"{default_objective(task or LANGUAGE_MODELING)}: SPLIT is {', '.join(SPLITS)}; KEY is "
            f"{', '.join(keys)}{hint}"
        )


def objective_value(objective: str, splits: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the metric that an objective names; None if the run does not have it."""
    split, _, key = objective.partition(".")
    return splits.get(split, {}).get(key)


def cost(name: str, value: float | None) -> float:
    """Return the value to minimize: the metric, or its negative if larger is better.

    It is infinite if the metric is missing or not finite.

    >>> cost("valid.perplexity", 40.0), cost("test.tokens_per_second", 9.0)
    (40.0, -9.0)
    """
    if value is None or not math.isfinite(value):
        return math.inf
    return -value if is_larger_better(name.partition(".")[2]) else value


def _score(key: str, **options: Any) -> Metric:
    """Return a metric of examples of which a larger value is better."""
    return Metric(key, larger_is_better=True, counts=EXAMPLES, **options)


def _others(*keys: str) -> Iterator[Metric]:
    """Return metrics that do not tell how good a model is."""
    return (Metric(key, is_quality=False) for key in keys)


_HELD_OUT, _VALID = ("valid", "test"), ("valid",)
_MAIN: dict[str, Any] = {"has_interval": True, "sweep": _HELD_OUT}
_PASS = (
    Metric("examples_per_second", larger_is_better=True, is_quality=False),
    *_others("num_examples", "seconds", "peak_memory_mb"),
)

register_metrics(
    "tagging",
    _score("f1", label="F1", charts=SPLITS, **_MAIN),
    _score("precision"),
    _score("recall"),
    _score("accuracy", charts=_VALID, **_MAIN),
    _score("accuracy_unknown"),
    Metric("loss", counts=("num_examples", "num_labels"), charts=SPLITS),
    _score("f1_TYPE", in_report=False),
    *_others("num_labels"),
    *_PASS,
)
register_metrics(
    "classification",
    _score("accuracy", charts=SPLITS, **_MAIN),
    _score("macro_f1", label="macro F1", charts=_VALID, **_MAIN),
    Metric("loss", counts=EXAMPLES, charts=SPLITS, has_interval=True),
    Metric("expected_calibration_error", counts=EXAMPLES, charts=_VALID),
    *_others("temperature"),
    *_PASS,
)
register_metrics(
    "seq2seq",
    _score("exact_match", charts=_VALID, **_MAIN),
    Metric("cer", "CER", counts=EXAMPLES, charts=_VALID, **_MAIN),
    _score("chrf", label="chrF", charts=_VALID, **_MAIN),
    _score("bleu", label="BLEU", charts=_VALID, **_MAIN),
    Metric("perplexity", counts=("num_examples", "num_tokens"), charts=SPLITS, **_MAIN),
    Metric("loss", counts=("num_examples", "num_tokens"), charts=SPLITS),
    *_others("num_tokens"),
    *_PASS,
)
register_metrics(
    LANGUAGE_MODELING,
    Metric("perplexity", "", ",.2f", counts=TOKEN_COUNTS, charts=SPLITS, sweep=_HELD_OUT),
    Metric("bits_per_char", "bits/char", counts=CHARS, charts=_VALID, sweep=_VALID),
    Metric("eojeol_perplexity", "per eojeol", ",.4g", charts=_VALID, sweep=_VALID, in_report=False),
    Metric("loss", counts=TOKEN_COUNTS, charts=SPLITS, in_report=False),
    Metric("perplexity_known", "known", ",.2f", counts=TOKEN_COUNTS, in_report=False),
    Metric("oov_rate", "unknown", ".1%", charts=_VALID, in_report=False),
    Metric("num_tokens", "tokens", ",", is_quality=False),
    Metric("tokens_per_second", "tokens/s", ",.0f", larger_is_better=True, is_quality=False),
    *_others("num_unk", "num_eojeol", "num_chars", "seconds", "peak_memory_mb"),
)
