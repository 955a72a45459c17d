"""Define what models share: states of recurrent models, and what is trained by gradient descent."""

from __future__ import annotations

from torch import Tensor, nn

State = tuple[Tensor, ...]


def detach_state(state: State) -> State:
    """Return the state without its graph (truncated backpropagation through time)."""
    return tuple(part.detach() for part in state)


class Trainable(nn.Module):
    """A model that names the matrices that the optimizer Muon updates."""

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """Return the matrices (G * M, N) for Muon, each with its number of gates G."""
        return []
