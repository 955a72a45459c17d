"""Progress of a training run, as stored in checkpoints."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from korlm.training.optimizers import Plateau

# Name in checkpoints of earlier versions -> attribute of ``Progress`` or ``Plateau``.
_RENAMED = {"best_loss": "best_cost", "bad_validations": "validations_without_improvement"}


@dataclass
class Progress:
    """Progress of a training run.

    Attributes:
        step: number of finished optimizer steps.
        epoch: number of finished epochs.
        batch: number of finished batches of the current epoch.
        epoch_nats: summed loss of these batches, as far as it was logged.
        epoch_tokens: number of targets of the batches in ``epoch_nats``.
        best_cost: lowest ``Task.cost`` of a validation; nats per token for a language model.
        loss_at_best: loss of that validation, which decides between equal costs.
        best_step: step of that validation.
        validations_without_improvement: number of validations since ``best_step``.
        validated_step: step of the last validation; -1 before the first.
        seconds: training time of all sessions, validations included.
        plateau: state of the plateau schedule.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    epoch_nats: float = 0.0
    epoch_tokens: int = 0
    best_cost: float = math.inf
    loss_at_best: float = math.inf
    best_step: int = 0
    validations_without_improvement: int = 0
    validated_step: int = -1
    seconds: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)

    def state_dict(self) -> dict[str, Any]:
        """Return the progress as a dict of numbers and, for ``plateau``, a dict of numbers."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Progress:
        """Return the progress that ``state_dict`` returned, also in a version with other names."""
        progress, plateau = (
            {_RENAMED.get(key, key): value for key, value in part.items()}
            for part in (state, state["plateau"])
        )
        return cls(**{**progress, "plateau": Plateau(**plateau)})
