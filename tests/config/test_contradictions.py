"""Settings that contradict each other; test_validation.py tests bounds of single settings."""

import re
from typing import Any

import pytest

from korlm import config
from korlm.utils.errors import ConfigError

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


@pytest.mark.parametrize(("schema", "values", "words"), CONTRADICTIONS)
def test_contradictions(schema: type, values: dict[str, Any], words: str) -> None:
    name = {"name": "x"} if schema is config.CorpusConfig else {}
    required = {"run": "x"} if issubclass(schema, config.InferenceSettings) else name
    with pytest.raises(ConfigError, match=re.escape(words)):
        schema(**required, **values)
