"""List the metrics of metrics.json by task, which a sweep can optimize as SPLIT.KEY."""

from __future__ import annotations

import difflib
import math

from korlm.utils.errors import ConfigError

SPLITS = ("train", "valid", "test")
LANGUAGE_MODELING = "language_modeling"  # the default task

_PASS = ("tokens_per_second", "seconds", "peak_memory_mb")  # these describe the evaluation itself

# Task -> all metrics in metrics.json.
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

LARGER_IS_BETTER = (
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


def check_objective(name: str, task: str | None = None) -> None:
    """Check the name of a metric, unless the task is one of another package.

    Args:
        name: SPLIT.KEY of the metric.
        task: name of the task; None: any task.

    Raises:
        ConfigError: metrics.json has no such metric.
    """
    if task is not None and task not in KEYS:
        return
    keys = KEYS[task] if task else tuple(dict.fromkeys(sum(KEYS.values(), ())))
    split, _, key = name.partition(".")
    if split not in SPLITS or key not in keys:
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"; did you mean valid.{near[0]}?" if near and near[0] != key else ""
        of_task = f" of task={task}" if task and task != LANGUAGE_MODELING else ""
        raise ConfigError(
            f"objective={name}: must be SPLIT.KEY of metrics.json{of_task}, such as "
            f"{default_objective(task or LANGUAGE_MODELING)}: SPLIT is {', '.join(SPLITS)}; KEY is "
            f"{', '.join(keys)}{hint}"
        )


def cost(name: str, value: float | None) -> float:
    """Return the value to minimize: the metric, or its negative if larger is better.

    Args:
        name: SPLIT.KEY of the metric.
        value: value of the metric; None if it is not finite, then the cost is infinite.

    >>> cost("valid.perplexity", 40.0), cost("test.tokens_per_second", 9.0)
    (40.0, -9.0)
    """
    if value is None or not math.isfinite(value):
        return math.inf
    return -value if name.partition(".")[2] in LARGER_IS_BETTER else value
