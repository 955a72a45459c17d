"""The bounds of single settings, and settings that contradict each other."""

import math
from typing import Any

import pytest

from korlm.config import (
    AdamConfig,
    BatchesConfig,
    BootstrapConfig,
    CacheConfig,
    CorpusConfig,
    DynamicConfig,
    EvaluateSettings,
    ExportSettings,
    GenerateMode,
    GenerateSettings,
    LSTMConfig,
    ScheduleConfig,
    ScoreSettings,
    TrainerConfig,
    VocabConfig,
)
from korlm.utils.errors import ConfigError

REFUSED: list[tuple[type, dict[str, Any], str]] = [
    (
        LSTMConfig,
        {"name": "lstm", "hidden_dropout": 1.5},
        "model.hidden_dropout=1.5: must be in [0, 1)",
    ),
    (AdamConfig, {"name": "adam", "lr": -1.0}, "optimizer.lr=-1.0: must be above 0"),
    (
        AdamConfig,
        {"name": "adam", "lr": math.nan},
        "optimizer.lr=nan: must be a finite number, above 0",
    ),
    (VocabConfig, {"min_freq": 0}, "vocab.min_freq=0: must be 1 or more"),
    (BatchesConfig, {"batch_size": 0}, "batches.batch_size=0: must be in [1, 1000000]"),
    (TrainerConfig, {"threads": 100_000}, "trainer.threads=100000: must be in [1, 1024]"),
    (ScheduleConfig, {"name": "constant", "warmup_ratio": 1.0}, "schedule.warmup_ratio=1.0: "),
    (CorpusConfig, {"name": "x", "valid_fraction": 0.95}, "test_fraction"),
    (GenerateSettings, {"temperature": math.nan}, "temperature=nan: must be a finite number"),
    (GenerateSettings, {"top_p": 0.0}, "top_p=0.0: must be in (0, 1]"),
    (GenerateSettings, {"top_p": 1.5}, "top_p=1.5: must be in (0, 1]"),
    (GenerateSettings, {"top_k": 0}, "top_k=0: must be 1 or more"),
    (GenerateSettings, {"repetition_penalty": 0.0}, "repetition_penalty=0.0: must be above 0"),
    (GenerateSettings, {"num_samples": 0}, "num_samples=0: must be in [1, 1000000]"),
    (GenerateSettings, {"max_tokens": 0}, "max_tokens=0: must be in [1, 1000000]"),
    (GenerateSettings, {"num_completions": 0}, "num_completions=0: must be in [1, 1000000]"),
    (GenerateSettings, {"seed": -1}, "seed=-1: must be in [0, 9223372036854775807]"),
    (
        GenerateSettings,
        {"beams": 2, "num_samples": 3},
        "num_samples=3: beams=2 yields at most 2 texts",
    ),
    (
        GenerateSettings,
        {"temperature": 0.0, "num_samples": 3},
        "num_samples=3: temperature=0 yields one text",
    ),
    (
        GenerateSettings,
        {"beams": 2, "mode": GenerateMode.complete},
        "beams=2: mode=complete has its own search",
    ),
    (CacheConfig, {"sizes": [0]}, "cache.sizes=[0]: each must be 1 or more"),
    (CacheConfig, {"flatness": []}, "cache.flatness=[]: needs a value"),
    (CacheConfig, {"flatness": [0.2, 0.1]}, "must increase from value to value"),
    (
        DynamicConfig,
        {"learning_rates": [-1.0]},
        "dynamic.learning_rates=[-1.0]: each must be above 0",
    ),
    (DynamicConfig, {"segment": 0}, "dynamic.segment=0: must be 1 or more"),
    (BootstrapConfig, {"samples": 10}, "bootstrap.samples=10: must be in [100, 1000000]"),
    (BootstrapConfig, {"block": 0}, "bootstrap.block=0: must be 1 or more"),
    (EvaluateSettings, {"run": "x", "threads": 0}, "threads=0: must be in [1, 1024]"),
    (ScoreSettings, {"batch_tokens": 0}, "batch_tokens=0: must be in [1, 10000000]"),
    (ExportSettings, {"formats": []}, "formats=[]: name one or more of safetensors, onnx, int8"),
    (ExportSettings, {"tokens": 0}, "tokens=0: must be 1 or more"),
]


@pytest.mark.parametrize(("schema", "values", "message"), REFUSED, ids=[m for _, _, m in REFUSED])
def test_refused(schema: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schema(**values)
    assert message in str(caught.value)
