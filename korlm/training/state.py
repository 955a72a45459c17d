"""Progress of a training run, as stored in its checkpoints."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from korlm.training.optimizers import Plateau

# Names in checkpoints of earlier versions.
_RENAMED = {"best_loss": "best_cost", "bad_validations": "validations_without_improvement"}


@dataclass
class Progress:
    """Progress of a training run, in plain numbers.

    Attributes:
        step: finished optimizer steps.
        epoch: finished epochs.
        batch: finished batches of the current epoch.
        epoch_nats: their summed loss.
        epoch_tokens: their targets.
        best_cost: lowest ``Task.cost`` of a validation; of a language model nats per token.
        best_step: the step of that validation.
        validations_without_improvement: since then.
        validated_step: the step of the last validation.
        seconds: training time of all sessions, validations included.
        plateau: state of the plateau schedule.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    epoch_nats: float = 0.0
    epoch_tokens: int = 0
    best_cost: float = math.inf
    best_step: int = 0
    validations_without_improvement: int = 0
    validated_step: int = -1
    seconds: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)

    def state_dict(self) -> dict[str, Any]:
        """Return the progress as a dict of numbers."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Progress:
        """Return the progress of ``state_dict``."""
        progress, plateau = (
            {_RENAMED.get(key, key): value for key, value in part.items()}
            for part in (state, state["plateau"])
        )
        return cls(**{**progress, "plateau": Plateau(**plateau)})
