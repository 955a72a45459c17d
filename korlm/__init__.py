"""korlm: language models for Korean text, from raw text to a perplexity in TensorBoard.

    model = korlm.load("outputs/runs/DIR")

opens a trained run for use in Python; what takes one says so in its docstring.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from korlm.runs import TrainedRun

__version__ = "0.1.0"


def load(run: str | Path) -> TrainedRun:
    """The best model of a run, with all that it takes to use it.

    Args:
        run: its directory, or one that korlm.export wrote.

    Raises:
        CheckpointError: there is no best.pt or model.safetensors, or it is damaged.
    """
    from korlm.runs import load_run  # brings PyTorch along

    return load_run(Path(run))
