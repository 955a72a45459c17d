"""Muon (Jordan et al. 2024): momentum whose matrices are made orthogonal before each step.

The update of a hidden matrix is its momentum with all singular values brought near 1, by five steps
of a Newton-Schulz iteration, so that rare directions move as far as common ones. Embeddings,
output layers and vectors are AdamW's. A recurrent layer's gates lie on top of each other in one
matrix, but are matrices of their own, and are made orthogonal one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from korlm.utils import threads

# Of the iteration x -> A x + B x^3 + C x^5: singular values in (0, 1] end between 0.7 and 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5
# The same for y = C^(1/4) x, the square completed: y -> ((y^2 + _SHIFT)^2 + _REST) y.
_SCALE: float = _C**0.25
_SHIFT: float = _B / (2 * _C**0.5)
_REST: float = _A - _SHIFT**2


def orthogonalize(matrices: Tensor) -> Tensor:
    """U V^T, nearly, of matrices with singular value decomposition U S V^T: (..., M, N)."""
    x = matrices.reshape(-1, *matrices.shape[-2:])
    norm: Tensor = torch.linalg.matrix_norm(x, keepdim=True)
    x = x * (_SCALE / (norm + 1e-7))
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    for _ in range(_STEPS):
        # Three plain products; what else there is concerns diagonals alone.
        gram = x @ x.mT
        gram.diagonal(dim1=-2, dim2=-1).add_(_SHIFT)
        gram = gram @ gram
        gram.diagonal(dim1=-2, dim2=-1).add_(_REST)
        x = gram @ x
    x = x.mT if is_tall else x
    return x.reshape(matrices.shape) / _SCALE


class Muon(torch.optim.AdamW):
    """Muon for hidden matrices, AdamW for everything else, under one learning rate.

    Args:
        hidden: groups with ``params``, and ``gates``: how many matrices lie on top of each other.
        others: groups of AdamW.
        lr: of AdamW.
        matrix_lr: of hidden matrices; the schedule scales both.
        momentum: of hidden matrices, Nesterov's.
        dtype: of the iteration's matrix products; bf16 is enough, and the iteration is the costly
            part: with 512 units 69 ms a step where a processor multiplies bf16, 270 in fp32.
        adam: further settings of AdamW.
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
        # PyTorch fills each group up with its defaults; no gates: AdamW's.
        groups = [*hidden, *({**group, "gates": 0} for group in others)]
        super().__init__(groups, lr=lr, **adam)
        self._dtype = dtype
        for group in self.param_groups:
            group["matrix_lr"], group["momentum"] = matrix_lr, momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        assert closure is None
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, dict[str, Any]]]] = {}
        for group in self.param_groups:
            for parameter in group["params"] if group["gates"] else ():
                if parameter.grad is not None:
                    shape = (group["gates"], *parameter.shape)
                    by_shape.setdefault(shape, []).append((parameter, group))
        for (gates, _, columns), members in by_shape.items():
            self._update_same_shape(members, (gates, -1, columns))
        groups, self.param_groups = (
            self.param_groups,
            [g for g in self.param_groups if not g["gates"]],
        )
        try:
            super().step()
        finally:
            self.param_groups = groups

    def _update_same_shape(
        self, members: list[tuple[Tensor, dict[str, Any]]], shape: tuple[int, int, int]
    ) -> None:
        """The step of hidden matrices of one shape, each with its group: one batch of gates."""
        ahead = [
            self._nesterov_momentum(parameter, group["momentum"]) for parameter, group in members
        ]
        stack = torch.stack([part.to(self._dtype).view(shape) for part in ahead])
        with threads.matmul_threads(stack.numel() * min(stack.shape[-2:])):
            transposed = orthogonalize(stack)
        size = max(1.0, transposed.shape[-2] / transposed.shape[-1]) ** 0.5
        for (parameter, group), update in zip(members, transposed, strict=True):
            # What share of its peak the schedule has the rate at.
            lr = group["lr"] / self.defaults["lr"] * group["matrix_lr"]
            if group["weight_decay"]:
                parameter.mul_(1 - lr * group["weight_decay"])
            parameter.add_(update.reshape(parameter.shape), alpha=-lr * size)

    def _nesterov_momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """Nesterov's momentum of a parameter, its own average brought forward."""
        state, grad = self.state[parameter], parameter.grad
        assert grad is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros(())  # AdamW looks for one in every state that it loads
        average: Tensor = state["momentum"].lerp_(grad, 1 - momentum)
        return grad.lerp(average, momentum)
