"""Settings of the export of trained models."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from korlm.config.commands.inference import InferenceSettings
from korlm.config.groups.training import Device
from korlm.config.registry import register
from korlm.config.validation import setting
from korlm.utils.errors import ConfigError

UNKNOWN_LICENSE = "unknown"


class ExportFormat(enum.Enum):
    """File formats of an exported model."""

    safetensors = "safetensors"
    onnx = "onnx"
    int8 = "int8"
    sherpa = "sherpa"


@register("", "export")
@dataclass
class ExportSettings(InferenceSettings):
    """Export a trained model for other programs, without pickle.

    Writes RUN/export: config.json and vocab.tsv; model.safetensors and spelling.safetensors, which
    korlm's commands accept as run=RUN/export; step.onnx, one step (ids, state -> log-probabilities,
    state), verified against PyTorch, with the initial state in begin.npz; step.int8.onnx, the same
    with quantized weights; of task=classification classifier.onnx (ids, lengths ->
    log-probabilities of classes), of task=tagging tagger.onnx (ids, lengths, units -> scores of
    labels), of task=seq2seq encoder.onnx and decoder.onnx (one step), each also as .int8.onnx;
    export.json, the size, speed and perplexity of each; and README.md, a model card in the format
    of Hugging Face with code that needs no korlm. The .onnx files need the packages onnx and
    onnxruntime. On request, sherpa-offline.onnx and sherpa-streaming.onnx are written for speech
    recognizers of sherpa-onnx.

      python -m korlm.export run=outputs/runs/DIR                          all but sherpa
      python -m korlm.export run=outputs/runs/DIR output=my_model          another folder
      python -m korlm.export run=outputs/runs/DIR 'formats=[safetensors]'  without ONNX

    n-gram models, and tasks with model.layer_norm=true, have no ONNX and are written as
    safetensors.
    """

    formats: list[ExportFormat] | None = setting(
        None,
        "safetensors: all weights; onnx: a graph in fp32; int8: the ONNX files with quantized "
        "weights as well (of an encoder those of embeddings and output layer); sherpa: language "
        "models for sherpa-onnx; null: all that the model has, without sherpa.",
    )
    output: str | None = setting(None, "New folder; null: RUN/export.", is_path=True)
    recognizer_tokens: str | None = setting(
        None,
        "sherpa: tokens.txt of the recognizer, whose ids the graphs take; null: ids of the run.",
        is_path=True,
    )
    license: str = setting(
        UNKNOWN_LICENSE,
        "License of the model in README.md, as Hugging Face names it: cc-by-4.0, gpl-3.0, ...",
    )
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
                raise ConfigError(
                    f"{shown}: name one or more of {', '.join(ExportFormat.__members__)}"
                )
            exact = {ExportFormat.onnx, ExportFormat.sherpa}
            if ExportFormat.int8 in self.formats and not exact & {*self.formats}:
                raise ConfigError(
                    f"{shown}: int8 is compared with another format: give 'formats=[onnx,int8]'"
                )
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.license):
            self._fail("license", "must be lower-case letters, digits, dots and hyphens: cc-by-4.0")
        if self.recognizer_tokens and ExportFormat.sherpa not in (self.formats or []):
            self._fail("recognizer_tokens", "has no effect without sherpa among formats")
        if self.device not in (Device.auto, Device.cpu):
            self._fail("device", "exports are verified on the CPU; use device=cpu")
