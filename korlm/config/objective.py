"""Metrics that a sweep can minimize or maximize, as SPLIT.KEY of metrics.json."""

from __future__ import annotations

import difflib
import math

from korlm.utils.errors import ConfigError

SPLITS = ("train", "valid", "test")

KEYS = (
    *("num_tokens", "num_unk", "num_eojeol", "num_chars", "loss", "perplexity", "perplexity_known"),
    *("oov_rate", "eojeol_perplexity", "bits_per_char"),
    *("tokens_per_second", "seconds", "peak_memory_mb"),
)

LARGER_IS_BETTER = ("tokens_per_second",)


def check_objective(name: str) -> None:
    """Check the name of a metric.

    Args:
        name: ``split.key``.

    Raises:
        ConfigError: metrics.json has no such metric.
    """
    split, _, key = name.partition(".")
    if split not in SPLITS or key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, n=1)
        hint = f"; did you mean valid.{near[0]}?" if near and near[0] != key else ""
        raise ConfigError(
            f"objective={name}: must be SPLIT.KEY of metrics.json, such as valid.perplexity: SPLIT "
            f"is {', '.join(SPLITS)}; KEY is {', '.join(KEYS)}{hint}"
        )


def cost(name: str, value: float | None) -> float:
    """Return the value to minimize: the metric, or its negative if larger is better.

    Args:
        name: ``split.key`` of the metric.
        value: its value; None if it is not finite.

    >>> cost("valid.perplexity", 40.0), cost("test.tokens_per_second", 9.0)
    (40.0, -9.0)
    """
    if value is None or not math.isfinite(value):
        return math.inf
    return -value if name.partition(".")[2] in LARGER_IS_BETTER else value
