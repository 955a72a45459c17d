"""The output layer: hidden states -> log-probabilities or summed nats, the costly part of a step.

In training the whole softmax and its gradient are done in the forward pass: neither logits nor
probabilities of a whole batch are ever kept twice, and what is read again is still in the
processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.dataset.vocab import PAD_ID
from korlm.modules.fused_cross_entropy import (
    _block_rows,
    _cross_entropy,
    _with_bias,
    _with_ones,
    copy_scaled_,
    cross_entropy_forward_backward,
    log_softmax_with_entropy,
)
from korlm.utils import threads


class _SummedNats(torch.autograd.Function):
    """Full softmax; forward works out the gradients, backward scales them by what comes in."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        weight_bias = _with_bias(weight, bias, dtype)
        real = (targets != PAD_ID)[:, None]
        nats, *grads = cross_entropy_forward_backward(
            _with_ones(hidden), weight_bias, targets, real, dtype
        )
        ctx.save_for_backward(*grads)
        return nats

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight_bias = ctx.saved_tensors
        scale = grads[0]
        size, width = grad_weight_bias.shape
        by_weight = copy_scaled_(scale.new_empty(size, width - 1), grad_weight_bias[:, :-1], scale)
        by_bias = copy_scaled_(scale.new_empty(size), grad_weight_bias[:, -1], scale)
        return grad_hidden[:, :-1] * scale, by_weight, by_bias, None, None


class SoftmaxHead(nn.Module):
    """A linear layer onto the vocabulary and the softmax after it.

    Args:
        hidden_dim: H of what comes in.
        vocab_size: V.
        weight: (V, H) to share with the embedding (Press and Wolf 2017), or None for an own one.
    """

    def __init__(self, hidden_dim: int, vocab_size: int, weight: Tensor | None) -> None:
        super().__init__()
        if weight is None:
            weight = nn.Parameter(torch.empty(vocab_size, hidden_dim))
            nn.init.uniform_(weight, -1 / math.sqrt(hidden_dim), 1 / math.sqrt(hidden_dim))
        self.weight = weight
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    @torch.no_grad()
    def init_bias_from_counts(self, counts: Sequence[int]) -> None:
        """Sets the biases so that a hidden state of zeros gives each token its share of train.

        Otherwise the first hundreds of steps go into learning how frequent each token is, and the
        recurrent weights learn it with the biases (Meister et al. 2023).

        Args:
            counts: of all ids; half a token is added to each, as a share of 0 has no log.
        """
        smoothed = torch.tensor(counts, dtype=torch.float64) + 0.5
        # Over the mean share: as small as they can be, since bf16 rounds by size.
        self.bias.copy_((smoothed / smoothed.mean()).log())

    def log_probs(self, hidden: Tensor, weight: Tensor | None = None) -> Tensor:
        """(..., H) -> float32 (..., V); with another matrix (V, H) than the own one, if given."""
        weight = self.weight if weight is None else weight
        with threads.matmul_threads(hidden.numel() * len(weight)):
            return F.log_softmax(F.linear(hidden, weight, self.bias).float(), dim=-1)

    def token_nll(self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """-ln p of each target, float32, 0 for <pad>: (N, H), (N,) -> (N,).

        Has gradients too, but ``cross_entropy_sum`` is the faster way to those of a training step.
        """
        weight = self.weight if weight is None else weight
        return _cross_entropy(hidden, weight, self.bias, targets, PAD_ID)

    def token_nll_and_entropy(
        self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """-ln p of each target and the entropy it was chosen from, float32 nats, block by block.

        Args:
            hidden: (N, H).
            targets: int64 (N,), no <pad> among them.
            weight: another matrix (V, H) than the own one, if given.

        Returns:
            (N,) both.
        """
        weight = self.weight if weight is None else weight
        with threads.matmul_threads(hidden.numel() * len(weight)):
            # Matrix products like more rows than a block that is read four times.
            block = 3 * _block_rows(hidden.device, weight.shape[0])
            found = [
                self._block_nats_and_entropy(rows, wanted, weight)
                for rows, wanted in zip(
                    torch.split(hidden, block), torch.split(targets, block), strict=True
                )
            ]
        return torch.cat([nats for nats, _ in found]), torch.cat([entropy for _, entropy in found])

    def _block_nats_and_entropy(
        self, hidden: Tensor, targets: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits, log_sums, entropy = log_softmax_with_entropy(hidden, weight, self.bias)
        return log_sums - logits.gather(1, targets[:, None])[:, 0], entropy

    def cross_entropy_sum(
        self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """The sum of ``token_nll`` with its gradients: (N, H), (N,) -> scalar.

        Under autocast, logits and their gradients are rounded to bf16 while sums within matrix
        products and the softmax stay fp32: good for training. Report ``token_nll`` instead.
        """
        weight = self.weight if weight is None else weight
        device = hidden.device.type
        low = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if low else hidden.dtype
        with torch.autocast(device, enabled=False):
            return self._summed_nats(hidden.to(self.bias.dtype), targets, weight, dtype)

    def _summed_nats(
        self, hidden: Tensor, targets: Tensor, weight: Tensor, dtype: torch.dtype
    ) -> Tensor:
        total: Tensor = _SummedNats.apply(hidden, weight, self.bias, targets, dtype)  # type: ignore[no-untyped-call]
        return total
