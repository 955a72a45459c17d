"""The bounds of single settings, and settings that contradict each other."""

import math
import re
from typing import Any

import pytest

from korlm import config
from korlm.config import registry
from korlm.utils.errors import ConfigError

BOUNDS: list[tuple[type, str, list[Any], str]] = [
    (config.LSTMConfig, "hidden_dropout", [1.5], "in [0, 1)"),
    (config.AdamConfig, "lr", [-1.0, math.nan], "above 0"),
    (config.VocabConfig, "min_freq", [0], "1 or more"),
    (config.BatchesConfig, "batch_size", [0], "in [1, 1000000]"),
    (config.TrainerConfig, "threads", [100_000], "in [1, 1024]"),
    (config.ScheduleConfig, "warmup_ratio", [1.0], "in [0, 1)"),
    (config.GenerateSettings, "temperature", [math.nan], "a finite number, in [0, 1000000.0]"),
    (config.GenerateSettings, "top_p", [0.0, 1.5], "in (0, 1]"),
    (config.GenerateSettings, "top_k", [0], "1 or more"),
    (config.GenerateSettings, "repetition_penalty", [0.0], "above 0"),
    (config.GenerateSettings, "num_samples", [0], "in [1, 1000000]"),
    (config.GenerateSettings, "max_tokens", [0], "in [1, 1000000]"),
    (config.GenerateSettings, "num_completions", [0], "in [1, 1000000]"),
    (config.GenerateSettings, "seed", [-1], "in [0, 9223372036854775807]"),
    (config.CacheConfig, "sizes", [[0]], "1 or more"),
    (config.DynamicConfig, "learning_rates", [[-1.0]], "above 0"),
    (config.DynamicConfig, "segment", [0], "1 or more"),
    (config.BootstrapConfig, "samples", [10], "in [100, 1000000]"),
    (config.BootstrapConfig, "block", [0], "1 or more"),
    (config.EvaluateSettings, "threads", [0], "in [1, 1024]"),
    (config.RescoreSettings, "lm_weight", [-1.0], "0 or more"),
    (config.RescoreSettings, "length_bonus", [math.nan], "a finite number"),
    (config.ScoreSettings, "batch_tokens", [0], "in [1, 10000000]"),
    (config.ExportSettings, "tokens", [0], "1 or more"),
]
CONTRADICTIONS: list[tuple[type, dict[str, Any], str]] = [
    (config.CorpusConfig, {"valid_fraction": 0.95}, "test_fraction"),
    (config.GenerateSettings, {"beams": 2, "num_samples": 3}, "beams=2 yields at most 2 texts"),
    (config.GenerateSettings, {"temperature": 0.0, "num_samples": 3}, "yields one text"),
    (
        config.GenerateSettings,
        {"beams": 2, "mode": config.GenerateMode.complete},
        "beams=2: mode=complete has its own search",
    ),
    (config.CacheConfig, {"flatness": []}, "cache.flatness=[]: needs a value"),
    (config.CacheConfig, {"flatness": [0.2, 0.1]}, "must increase from value to value"),
    (config.ExportSettings, {"formats": []}, "formats=[]: name one or more of safetensors, onnx"),
]


def message_of(schema: type, **values: Any) -> str:
    fixed = {config.EvaluateSettings: {"run": "x"}, config.CorpusConfig: {"name": "x"}}
    for group in registry.NAMED:
        if names := registry.names_of(group, schema):
            fixed[schema] = {"name": names[0]}
    with pytest.raises(ConfigError) as caught:
        schema(**fixed.get(schema, {}), **values)
    return str(caught.value)


@pytest.mark.parametrize(("schema", "key", "values", "bounds"), BOUNDS)
def test_bounds(schema: type, key: str, values: list[Any], bounds: str) -> None:
    for value in values:
        message = message_of(schema, **{key: value})
        shown = re.escape(f"{key}={value}: ")
        assert re.search(rf"{shown}(each )?must be .*{re.escape(bounds)}$", message), message


@pytest.mark.parametrize(("schema", "values", "words"), CONTRADICTIONS)
def test_contradictions(schema: type, values: dict[str, Any], words: str) -> None:
    assert words in message_of(schema, **values)
