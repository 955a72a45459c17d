"""Operations on padded batches that depend on the length of each row.

Axes: B batch, T time. ``lengths`` is int64 (B,) on any device, the number of valid steps of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor


def valid_mask(x: Tensor, lengths: Tensor) -> Tensor:
    """Return True for the valid steps of x, (B, T, ...) -> bool (B, T)."""
    return torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]


def last_valid(x: Tensor, lengths: Tensor) -> Tensor:
    """Return the last valid step of each row, (B, T, ...) -> (B, ...)."""
    return x[torch.arange(len(x), device=x.device), lengths.to(x.device) - 1]


def last_steps(x: Tensor, size: int, lengths: Tensor | None) -> Tensor:
    """Return the last ``size`` valid steps of each row, (B, size, ...).

    ``x``, (B, size + T, ...), are the steps before a batch and the T of the batch, of which
    ``lengths`` are valid; None: all.
    """
    if lengths is None:
        return x[:, x.shape[1] - size :]
    steps = lengths.to(x.device)[:, None] + torch.arange(size, device=x.device)
    return x[torch.arange(len(x), device=x.device)[:, None], steps]


def reverse_valid(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse the valid steps of each row, time-first (T, B, F); the padding stays where it is.

    Without lengths all steps are valid.
    """
    if lengths is None:
        return x.flip(0)
    steps, ends = torch.arange(x.shape[0], device=x.device)[:, None], lengths.to(x.device)
    source = torch.where(steps < ends, ends - 1 - steps, steps)  # (T, B)
    columns = torch.arange(x.shape[1], device=x.device)
    # Whole rows are copied: ``gather`` would be four times as slow on a CPU.
    rows = (source * x.shape[1] + columns).flatten()
    return x.flatten(0, 1).index_select(0, rows).view_as(x)
