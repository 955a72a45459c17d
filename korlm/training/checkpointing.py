"""Write and restore checkpoints: best.pt and last.pt, also of several processes.

Process r of n trains on rows r, r + n, r + 2n ... of each batch. A checkpoint holds the recurrent
state of all rows in order, so a run can be resumed with another number of processes; the states of
the random number generators are stored per process.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from korlm.config import ResumeFrom
from korlm.dataset.prepared import Prepared
from korlm.modules.base import State
from korlm.runs.checkpoint import (
    Checkpoint,
    matching_settings,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from korlm.training.optimizers import Plateau
from korlm.utils.distributed import ProcessGroup
from korlm.utils.errors import PreparedError

logger = logging.getLogger(__name__)


@dataclass
class CheckpointWriter:
    """Writes the checkpoints of a run; only rank 0 writes."""

    folder: Path
    constants: Checkpoint
    model: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Progress
    group: ProcessGroup

    def save_best(self) -> None:
        """Write best.pt: parameters, progress and constants; enough to use the model."""
        if self.group.is_main_process:
            save_checkpoint(self.folder / "best.pt", self._checkpoint())

    def save_last(self, state: State | None) -> None:
        """Write last.pt: best.pt and what resuming needs; a collective operation.

        ``state`` is that of the rows of this process, each tensor (rows, ...).
        """
        state = gather_rows(state, self.group)
        rng = self.group.gather(random_states())
        if self.group.is_main_process:
            checkpoint = {
                **self._checkpoint(),
                "optimizer": self.optimizer.state_dict(),
                "state": None if state is None else [part.contiguous() for part in state],
                "rng": rng[0] if len(rng) == 1 else rng,
            }
            save_checkpoint(self.folder / "last.pt", checkpoint)

    def _checkpoint(self) -> Checkpoint:
        return {
            **self.constants,
            "model": self.model.state_dict(),
            "optimizer": None,
            "progress": self.progress.state_dict(),
        }


def constant_entries(
    config: dict[str, Any], prepared: Prepared, labels: Sequence[str] = ()
) -> Checkpoint:
    """Return the entries of a checkpoint that do not change in training."""
    spelling, learned = prepared.spelling.arrays(), prepared.tokenizer_model
    return {
        "config": config,
        "fingerprint": prepared.fingerprint,
        "prepared": str(prepared.folder.resolve()),
        "labels": list(labels),
        "vocab": {"tokens": list(prepared.vocab.tokens), "counts": list(prepared.vocab.counts)},
        "spelling": {
            name: torch.from_numpy(array.astype("int64")) for name, array in spelling.items()
        },
        "learned": None
        if learned is None
        else torch.frombuffer(bytearray(learned), dtype=torch.uint8),
    }


def restore_training(
    checkpoint: Checkpoint,
    path: Path,
    resume_from: ResumeFrom,
    prepared: Prepared,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    group: ProcessGroup,
) -> tuple[Progress, State | None]:
    """Load a checkpoint into a model and an optimizer.

    Returns:
        The progress, and the recurrent state of the rows of this process on the CPU.

    Raises:
        PreparedError: the checkpoint was trained on another corpus.
        CheckpointError: the checkpoint does not match its own settings.
    """
    if checkpoint["fingerprint"] != prepared.fingerprint:
        raise PreparedError(
            f"{prepared.folder}: its fingerprint is {prepared.fingerprint}, that of the checkpoint "
            f"{checkpoint['fingerprint']}: the text or its preparation has changed; restore the "
            "text, or start a new run"
        )
    state = None
    with matching_settings(path):
        model.load_state_dict(checkpoint["model"])
        progress = Progress.from_state_dict(checkpoint["progress"])
        if resume_from is ResumeFrom.last:
            optimizer.load_state_dict(dict(checkpoint["optimizer"]))
            _restore_random_states(checkpoint["rng"], group)
            if checkpoint["state"] is not None:
                rows = slice(group.rank, None, group.world_size)
                state = tuple(part[rows] for part in checkpoint["state"])
    if resume_from is ResumeFrom.best:
        progress.validated_step = progress.step
        if group.is_main_process:
            logger.warning(
                "resuming from the best model, of step %d, with a new optimizer state: the "
                "results will differ from those of an unbroken run",
                progress.step,
            )
    return progress, state


def gather_rows(state: State | None, group: ProcessGroup) -> State | None:
    """Return on rank 0 the state of all rows, in order, from the states of each process's rows."""
    if group.world_size == 1:
        return state
    gathered = group.gather(None if state is None else [part.cpu() for part in state])
    # Processes may have different numbers of rows; those without rows have no state.
    parts = [part for part in gathered if part is not None]
    if not parts:
        return None
    whole = []
    for ranks in zip(*parts, strict=True):  # a tensor of the rows of each process
        rows = ranks[0].new_empty(sum(map(len, ranks)), *ranks[0].shape[1:])
        for rank, part in enumerate(ranks):
            rows[rank :: group.world_size] = part
        whole.append(rows)
    return tuple(whole)


def _restore_random_states(
    states: dict[str, Any] | list[dict[str, Any]], group: ProcessGroup
) -> None:
    """Restore the generators of this process, unless the number of processes has changed."""
    by_rank = states if isinstance(states, list) else [states]
    if len(by_rank) == group.world_size:
        restore_random_states(by_rank[group.rank])
    elif group.is_main_process:
        logger.warning(
            "resuming a run of %d process(es) with %d: random states are not restored, so dropout "
            "differs from that of an unbroken run",
            len(by_rank),
            group.world_size,
        )


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
