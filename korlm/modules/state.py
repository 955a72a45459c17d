"""State of a recurrent model: a tuple of tensors whose first dimension is the batch."""

from __future__ import annotations

from torch import Tensor

State = tuple[Tensor, ...]


def detach_state(state: State) -> State:
    """Return the state without its graph (truncated backpropagation through time)."""
    return tuple(part.detach() for part in state)
