"""The recurrent state of a model: tensors whose first dimension is the batch."""

from __future__ import annotations

from torch import Tensor

State = tuple[Tensor, ...]


def detach_state(state: State) -> State:
    """The same state, cut off from the steps that led to it (truncated back-propagation)."""
    return tuple(part.detach() for part in state)
