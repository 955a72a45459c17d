"""Base class of all models that are trained by gradient descent."""

from __future__ import annotations

from torch import Tensor, nn


class Trainable(nn.Module):
    """A model that names the matrices that the optimizer Muon updates."""

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """Return the matrices (G * M, N) for Muon, each with its number of gates G."""
        return []
