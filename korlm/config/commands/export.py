"""Settings of the files that a trained model is given away in."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from korlm.config.commands.inference import UseSettings
from korlm.config.registry import register
from korlm.config.training import Device
from korlm.config.validation import path_field
from korlm.utils.errors import ConfigError


class ExportFormat(enum.Enum):
    """What a model is written as."""

    safetensors = "safetensors"
    onnx = "onnx"
    int8 = "int8"


@register("", "export")
@dataclass
class ExportSettings(UseSettings):
    """python -m korlm.export: run -> a folder that takes neither pickle nor PyTorch to read."""

    formats: list[ExportFormat] = field(default_factory=lambda: list(ExportFormat))
    # safetensors: all weights; onnx: one step in float32; int8: one step with quantised weights
    output: str | None = path_field(None)
    # the new folder; null: RUN/export
    prepared: str | None = path_field(None)
    # where the text lies now; null: where it lay in training
    threads: int | None = 1
    # of the CPU while speed is measured; null: the libraries' own choice
    tokens: int = 100_000
    # of valid, from its beginning, that perplexity is measured on

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "tokens")
        shown = f"formats=[{','.join(one.value for one in self.formats)}]"
        if not self.formats:
            raise ConfigError(f"{shown}: name one or more of safetensors, onnx, int8")
        if ExportFormat.int8 in self.formats and ExportFormat.onnx not in self.formats:
            raise ConfigError(f"{shown}: int8 is judged beside onnx; name that as well")
        if self.device not in (Device.auto, Device.cpu):
            self._fail("device", "exports are checked on the CPU; use device=cpu")
