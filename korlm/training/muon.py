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

# Of the quintic iteration: singular values in (0, 1] end between 0.7 and 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5


def orthogonalize(matrices: Tensor) -> Tensor:
    """U V^T, nearly, of matrices with singular value decomposition U S V^T: (..., M, N)."""
    x = matrices.reshape(-1, *matrices.shape[-2:])
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    for _ in range(_STEPS):  # x becomes A x + (B G + C G G) x with G = x x^T
        gram = x @ x.mT
        inner = torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C)
        x = torch.baddbmm(x, inner, x, beta=_A)
    return (x.mT if is_tall else x).reshape(matrices.shape)


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
        hidden = [group for group in self.param_groups if group["gates"]]
        for group in hidden:
            # What share of its peak the schedule has the rate at.
            share = group["lr"] / self.defaults["lr"]
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._turn(parameter, group, share * group["matrix_lr"])
        groups, self.param_groups = (
            self.param_groups,
            [g for g in self.param_groups if not g["gates"]],
        )
        try:
            super().step()
        finally:
            self.param_groups = groups

    def _turn(self, parameter: Tensor, group: dict[str, Any], lr: float) -> None:
        """The step of one hidden matrix (gates * M, N)."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros(())  # AdamW looks for one in every state that it loads
        average, grad = state["momentum"], parameter.grad
        average.lerp_(grad, 1 - group["momentum"])
        ahead = grad.lerp(average, group["momentum"])  # type: ignore[union-attr]
        matrices = ahead.view(group["gates"], -1, parameter.shape[1]).to(self._dtype)
        size = max(1.0, matrices.shape[1] / matrices.shape[2]) ** 0.5
        if group["weight_decay"]:
            parameter.mul_(1 - lr * group["weight_decay"])
        parameter.add_(orthogonalize(matrices).reshape(parameter.shape), alpha=-lr * size)
