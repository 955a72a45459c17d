"""Settings of the export of trained models."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from korlm.config.commands.inference import InferenceSettings
from korlm.config.groups.training import Device
from korlm.config.registry import register
from korlm.config.validation import setting
from korlm.utils.errors import ConfigError


class ExportFormat(enum.Enum):
    """File formats of an exported model."""

    safetensors = "safetensors"
    onnx = "onnx"
    int8 = "int8"


@register("", "export")
@dataclass
class ExportSettings(InferenceSettings):
    """Export a trained model for other programs, without pickle.

    Writes RUN/export: config.json and vocab.tsv; model.safetensors and spelling.safetensors, which
    korlm's commands accept as run=RUN/export; step.onnx, one step (ids, state -> log-probabilities,
    state), verified against PyTorch, with the initial state in begin.npz; step.int8.onnx, the same
    with quantized weights; and export.json, the size, speed and perplexity of each. The .onnx files
    need the packages onnx and onnxruntime.

      python -m korlm.export run=outputs/runs/DIR                          all formats it has
      python -m korlm.export run=outputs/runs/DIR output=my_model          another folder
      python -m korlm.export run=outputs/runs/DIR 'formats=[safetensors]'  without ONNX

    Only neural language models have ONNX; n-gram models and models of other tasks are written as
    safetensors.
    """

    formats: list[ExportFormat] | None = setting(
        None,
        "safetensors: all weights; onnx: one step in fp32; int8: one step with quantized weights; "
        "null: all that the model has.",
    )
    output: str | None = setting(None, "New folder; null: RUN/export.", is_path=True)
    prepared: str | None = setting(
        None,
        "Prepared corpus of the run, if it was moved; null: where training found it.",
        is_path=True,
    )
    threads: int | None = setting(
        1, "CPU threads while speed is measured; null: chosen by the libraries.", min=1, max=1024
    )
    tokens: int = setting(
        100_000, "First tokens of valid that perplexity is measured on.", unit="tokens", min=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.formats is not None:
            shown = f"formats=[{','.join(one.value for one in self.formats)}]"
            if not self.formats:
                raise ConfigError(f"{shown}: name one or more of safetensors, onnx, int8")
            if ExportFormat.int8 in self.formats and ExportFormat.onnx not in self.formats:
                raise ConfigError(f"{shown}: int8 is compared with onnx; name onnx as well")
        if self.device not in (Device.auto, Device.cpu):
            self._fail("device", "exports are verified on the CPU; use device=cpu")
