"""Progress of a training run: step, epoch, best validation loss and patience."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from korlm.training.optimizers import Plateau


@dataclass
class Progress:
    """Where training stands; plain numbers, so that a checkpoint holds them as they are.

    Attributes:
        step: optimizer steps done.
        epoch: passes over train that are done.
        batch: batches of the current pass that are done.
        epoch_nats: summed loss over them.
        epoch_tokens: tokens in them.
        best_loss: lowest valid loss so far, nats per token.
        best_step: where it was found.
        bad_validations: validations since then.
        validated_step: step of the last validation.
        seconds: spent in training, earlier sessions included.
        plateau: memory of the plateau schedule.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    epoch_nats: float = 0.0
    epoch_tokens: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    validations_without_improvement: int = 0
    validated_step: int = -1
    seconds: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)

    def plain(self) -> dict[str, Any]:
        """As a dict of numbers."""
        return asdict(self)

    @classmethod
    def restore(cls, plain: dict[str, Any]) -> Progress:
        """From what ``plain`` gave."""
        return cls(**{**plain, "plateau": Plateau(**plain["plateau"])})
