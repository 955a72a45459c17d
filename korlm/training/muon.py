"""Muon (Jordan et al. 2024): each step applies the orthogonalized momentum.

The update of a hidden matrix is its momentum with all singular values moved close to 1 by five
steps of a Newton-Schulz iteration, so that all singular directions get updates of similar size.
Embeddings, output layers and vectors use AdamW. Matrices that a layer stacks in one parameter (the
gates of a recurrent layer; queries, keys and values) are orthogonalized separately.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from korlm.utils import threads

# Five steps of the iteration x -> A x + B x^3 + C x^5 map singular values in [0.002, 1] to about
# [0.68, 1.2]; smaller ones stay smaller.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5
# In terms of y = C^(1/4) x, completing the square: y -> ((y^2 + _SHIFT)^2 + _REST) y.
_SCALE: float = _C**0.25
_SHIFT: float = _B / (2 * _C**0.5)
_REST: float = _A - _SHIFT**2


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return approximately U V^T of matrices (..., M, N) with the decomposition U S V^T."""
    x = matrices.reshape(-1, *matrices.shape[-2:])
    norm: Tensor = torch.linalg.matrix_norm(x, keepdim=True)
    x = x * (_SCALE / (norm + 1e-7))
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    for _ in range(_STEPS):
        # Three matrix products; the other operations change only diagonals.
        gram = x @ x.mT
        gram.diagonal(dim1=-2, dim2=-1).add_(_SHIFT)
        gram = gram @ gram
        gram.diagonal(dim1=-2, dim2=-1).add_(_REST)
        x = gram @ x
    x = x.mT if is_tall else x
    return x.reshape(matrices.shape) / _SCALE


class Muon(torch.optim.AdamW):
    """Muon for hidden matrices, AdamW for everything else, with one schedule.

    Args:
        hidden: parameter groups of hidden matrices; ``gates`` is the number of matrices stacked in
            each parameter.
        others: parameter groups for AdamW.
        lr: learning rate of AdamW.
        matrix_lr: learning rate of hidden matrices, multiplied by lr / base lr of their group.
        momentum: decay of the average of the gradients of hidden matrices.
        dtype: of the iteration's matrix products. bf16 is precise enough, and the iteration is the
            expensive part: with 512 units, 69 ms per step in bf16 (native) and 270 ms in fp32.
        adam: further arguments of AdamW.
    """

    def __init__(
        self,
        hidden: Iterable[dict[str, Any]],
        others: Iterable[dict[str, Any]],
        lr: float,
        matrix_lr: float,
        momentum: float,
        dtype: torch.dtype = torch.float32,
        **adam: Any,
    ) -> None:
        # gates=0 marks the groups of AdamW; PyTorch adds its defaults to all groups.
        groups = [*hidden, *({**group, "gates": 0} for group in others)]
        super().__init__(groups, lr=lr, **adam)
        self._dtype = dtype
        for group in self.param_groups:
            group["matrix_lr"], group["momentum"] = matrix_lr, momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        assert closure is None
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, dict[str, Any]]]] = {}
        for group in self.param_groups:
            for parameter in group["params"] if group["gates"] else ():
                if parameter.grad is not None:
                    shape = (group["gates"], *parameter.shape)
                    by_shape.setdefault(shape, []).append((parameter, group))
        for (gates, _, columns), members in by_shape.items():
            self._update_same_shape(members, (gates, -1, columns))
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["gates"]]
        try:
            super().step()
        finally:
            self.param_groups = groups

    def _update_same_shape(
        self, members: list[tuple[Tensor, dict[str, Any]]], shape: tuple[int, int, int]
    ) -> None:
        """Update hidden matrices of one shape in one batch.

        Args:
            members: parameters, each with its group.
            shape: (gates, M, N).
        """
        momenta = [
            self._nesterov_momentum(parameter, group["momentum"]) for parameter, group in members
        ]
        stack = torch.stack([part.to(self._dtype).view(shape) for part in momenta])
        with threads.matmul_threads(stack.numel() * min(stack.shape[-2:])):
            updates = orthogonalize(stack)
        scale = max(1.0, updates.shape[-2] / updates.shape[-1]) ** 0.5
        for (parameter, group), update in zip(members, updates, strict=True):
            lr_factor = group["lr"] / self.defaults["lr"]
            lr = lr_factor * group["matrix_lr"]
            if group["weight_decay"]:
                parameter.mul_(1 - lr * group["weight_decay"])
            parameter.add_(update.reshape(parameter.shape), alpha=-lr * scale)

    def _nesterov_momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """Update the momentum of a parameter, and return Nesterov's, (1 - m) grad + m average."""
        state, grad = self.state[parameter], parameter.grad
        assert grad is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros(())  # AdamW.load_state_dict expects it
        average: Tensor = state["momentum"].lerp_(grad, 1 - momentum)
        return grad.lerp(average, momentum)
