"""Settings shared by all commands that use a trained run."""

from __future__ import annotations

from dataclasses import dataclass

from korlm.config.groups.training import Device
from korlm.config.validation import MAX_THREADS, MISSING, CommandSettings, setting


@dataclass
class InferenceSettings(CommandSettings):
    """A trained run, and the device of its model."""

    run: str = setting(MISSING, "Run directory, or export.", is_path=True)
    device: Device = setting(
        Device.auto, "Device of the model; auto: CUDA, then MPS, then the CPU."
    )
    threads: int | None = setting(
        None,
        "CPU threads; null: all available cores. Steps of a recurrent network use one.",
        min=1,
        max=MAX_THREADS,
    )
