"""List the metrics of metrics.json by task, which a sweep can optimize as SPLIT.KEY."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

from korlm.utils.errors import ConfigError

SPLITS = ("train", "valid", "test")
LANGUAGE_MODELING = "language_modeling"  # the default task

_F1_OF_TYPE = "f1_"
_PASS = ("tokens_per_second", "seconds", "peak_memory_mb")  # these describe the evaluation itself

# Task -> all metrics in metrics.json; tagging also has f1_TYPE for each type of span.
KEYS: dict[str, tuple[str, ...]] = {
    LANGUAGE_MODELING: (
        *("num_tokens", "num_unk", "num_eojeol", "num_chars"),
        *("loss", "perplexity", "perplexity_known", "oov_rate"),
        *("eojeol_perplexity", "bits_per_char"),
        *_PASS,
    ),
    "classification": (
        *("num_examples", "loss", "accuracy", "macro_f1", "expected_calibration_error"),
        *("temperature", "examples_per_second", "seconds", "peak_memory_mb"),
    ),
    "tagging": (
        *("num_examples", "num_labels", "loss", "f1", "precision", "recall"),
        *("accuracy", "accuracy_unknown"),
        *("examples_per_second", "seconds", "peak_memory_mb"),
    ),
    "seq2seq": (
        *("num_examples", "num_tokens", "loss", "perplexity"),
        *("exact_match", "cer", "chrf", "bleu"),
        *("examples_per_second", "seconds", "peak_memory_mb"),
    ),
}

# Task -> objective of a sweep if the settings name none.
DEFAULTS = {
    LANGUAGE_MODELING: "valid.perplexity",
    "classification": "valid.accuracy",
    "tagging": "valid.f1",
    "seq2seq": "valid.exact_match",
}

_LARGER_IS_BETTER = (
    *("tokens_per_second", "examples_per_second"),
    *("accuracy", "accuracy_unknown", "macro_f1", "f1", "precision", "recall"),
    *("exact_match", "chrf", "bleu"),
)

# Task -> metrics that tell how good a model is, the most important first.
QUALITY: dict[str, tuple[str, ...]] = {
    LANGUAGE_MODELING: (
        *("perplexity", "loss", "perplexity_known", "eojeol_perplexity", "bits_per_char"),
    ),
    "classification": ("accuracy", "macro_f1", "loss", "expected_calibration_error"),
    "tagging": ("f1", "precision", "recall", "accuracy", "accuracy_unknown", "loss"),
    "seq2seq": ("exact_match", "cer", "chrf", "bleu", "perplexity", "loss"),
}


def quality_metrics(task: str) -> tuple[str, ...]:
    """Return the metrics that tell how good a model is; ``loss`` for a task of another package."""
    return QUALITY.get(task, ("loss",))


def default_objective(task: str) -> str:
    """Return the objective of a task if the settings name none."""
    return DEFAULTS.get(task, "valid.loss")


def is_larger_better(key: str) -> bool:
    """Return whether a larger value of a metric is better.

    >>> is_larger_better("accuracy"), is_larger_better("loss"), is_larger_better("f1_PS")
    (True, False, True)
    """
    return key in _LARGER_IS_BETTER or key.startswith(_F1_OF_TYPE)


def check_objective(name: str, task: str | None = None) -> None:
    """Check the name of an objective.

    Some metrics are missing in some runs, for example those of test without a test split.

    Args:
        name: SPLIT.KEY of the metric.
        task: name of the task. None, or a task of another package: the metric may be one of any
            task here, since the direction of others is not known.

    Raises:
        ConfigError: metrics.json has no such metric.
    """
    keys = KEYS.get(task or "") or tuple(dict.fromkeys(sum(KEYS.values(), ())))
    split, _, key = name.partition(".")
    is_f1_of_type = key.startswith(_F1_OF_TYPE) and "f1" in keys
    if split not in SPLITS or not (key in keys or is_f1_of_type):
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
