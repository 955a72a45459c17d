"""Settings shared by all commands that use a trained run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from korlm.config.groups.corpus import TextConfig
from korlm.config.groups.training import Device
from korlm.config.validation import MAX_THREADS, MISSING, CommandSettings, setting


@dataclass
class InferenceSettings(CommandSettings):
    """A trained run, and the device of its model."""

    run: str = setting(
        MISSING, "Run directory, or export; latest: the newest run in outputs/runs.", is_path=True
    )
    device: Device = setting(
        Device.auto, "Device of the model; auto: CUDA, then MPS, then the CPU."
    )
    threads: int | None = setting(
        None,
        "CPU threads; null: all available cores. Steps of a recurrent network use one.",
        min=1,
        max=MAX_THREADS,
    )


def path_list(given: Any) -> list[str]:
    """Return the paths of a setting that names one or a list of them; null is empty.

    >>> path_list("a"), path_list(["a", None])
    (['a'], ['a', ''])
    """
    paths = given if isinstance(given, list) else [given]
    return ["" if path is None else str(path) for path in paths]


@dataclass
class TextInputSettings(InferenceSettings):
    """A trained run, and text to use it on."""

    input: Any = setting(
        MISSING,
        "File, folder, glob or URL, or several: [FILE,FILE]; -: standard input.",
        is_path=True,
    )
    corpus: TextConfig = setting(TextConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.inputs or not all(self.inputs):
            self._fail("input", "give a file, a list of files [FILE,FILE], or - (standard input)")

    @property
    def inputs(self) -> list[str]:
        """``input`` as a list."""
        return path_list(self.input)
