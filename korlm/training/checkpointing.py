"""Write and restore checkpoints: best.pt and last.pt, also of several processes.

Process r of n trains on rows r, r + n, r + 2n ... of each batch. A checkpoint holds the recurrent
state of all rows in order, so a run can be resumed with another number of processes; the states of
the random number generators are stored per process.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from korlm.config import ResumeFrom
from korlm.dataset.prepared import Prepared
from korlm.modules.state import State
from korlm.runs.checkpoint import (
    Checkpoint,
    matching_settings,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from korlm.training.progress import Progress
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
