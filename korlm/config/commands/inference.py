"""What the settings of all commands that use a trained run begin with."""

from __future__ import annotations

from dataclasses import dataclass

from korlm.config.training import Device
from korlm.config.validation import MAX_THREADS, CommandSettings, path_field


@dataclass
class UseSettings(CommandSettings):
    """A run, and what computes with its model."""

    run: str = path_field()
    # the directory of the run
    device: Device = Device.auto
    threads: int | None = None
    # of the CPU; null: all cores that are left to it; steps of a recurrent network take one

    def __post_init__(self) -> None:
        self._at_least(1, "threads")
        self._at_most(MAX_THREADS, "threads")
