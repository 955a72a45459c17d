"""State of a recurrent model: a tuple of tensors whose first dimension is the batch."""

from __future__ import annotations

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def detach_state(state: State) -> State:
    """Return the state without its graph (truncated backpropagation through time)."""
    return tuple(part.detach() for part in state)


def last_steps(x: Tensor, size: int, lengths: Tensor | None) -> Tensor:
    """Return the last ``size`` valid steps of each row, (B, size, ...).

    Args:
        x: (B, size + T, ...), the steps before a batch and those of the batch.
        size: number of steps.
        lengths: int64 (B,), valid steps of the T of each row; None: T.
    """
    if lengths is None:
        return x[:, x.shape[1] - size :]
    steps = lengths.to(x.device)[:, None] + torch.arange(size, device=x.device)
    return x[torch.arange(len(x), device=x.device)[:, None], steps]
