"""The output layer: hidden states -> log-probabilities or summed nats, the costly part of a step.

In training the whole softmax and its gradient are done block by block in the forward pass: neither
logits nor probabilities of a whole batch are ever kept twice, and what is read again is still in
the processor's cache.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAD_ID = 0
BLOCK = 64  # rows done at once on a CPU; 64 x 8,600 in bf16 are 1.1 MB
GPU_BLOCK = 4096


class _SummedNats(torch.autograd.Function):
    """Sum over rows of -ln softmax(hidden W^T + b)[target], rows with target <pad> left out.

    The gradient of row n's nats with respect to its logits is softmax - onehot(target), so that
    forward has all it needs to work out the gradients; backward scales them by what comes in.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        rows, vocab_size = hidden.shape[0], weight.shape[0]
        block = BLOCK if hidden.device.type == "cpu" else GPU_BLOCK
        low, low_weight, low_bias = hidden.to(dtype), weight.to(dtype), bias.to(dtype)
        slopes = torch.empty(rows, vocab_size, dtype=dtype, device=hidden.device)
        nats = torch.empty(rows, 1, dtype=bias.dtype, device=hidden.device)
        real = (targets != PAD_ID)[:, None]
        for begin in range(0, rows, block):
            part = slice(begin, begin + block)
            wanted = targets[part, None]
            logits = torch.addmm(low_bias, low[part], low_weight.t())
            probs = torch.softmax(logits, dim=1, out=slopes[part])
            # ln of the sum of exponentials, read off at the most probable token: one pass less than
            # logsumexp, and nothing can underflow there.
            largest, likeliest = logits.amax(1, keepdim=True), probs.amax(1, keepdim=True)
            log_total = largest.to(nats.dtype) - likeliest.to(nats.dtype).log()
            nats[part] = log_total - logits.gather(1, wanted)
            probs.scatter_add_(1, wanted, probs.new_full(wanted.shape, -1.0))
        if hidden.device.type != "cpu" or not bool(real.all()):  # asking a GPU would wait for it
            slopes.mul_(real)
        by_bias = slopes.new_ones(1, rows) @ slopes
        ctx.wide = bias.dtype
        ctx.save_for_backward(slopes @ low_weight, slopes.t() @ low, by_bias[0])
        return (nats * real).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_hidden, by_weight, by_bias = ctx.saved_tensors
        scale = grads[0]
        # Scaled in the width of the parameters: bf16 would round once more.
        wide = ctx.wide
        found = (part.to(wide) * scale for part in (by_hidden, by_weight, by_bias))
        return (*found, None, None)


class OutputLayer(nn.Module):
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

    def log_probs(self, hidden: Tensor, weight: Tensor | None = None) -> Tensor:
        """(..., H) -> float32 (..., V); with another matrix (V, H) than the own one, if given."""
        logits = F.linear(hidden, self.weight if weight is None else weight, self.bias)
        return F.log_softmax(logits.float(), dim=-1)

    def nats(self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """-ln p of each target, float32, 0 for <pad>: (N, H), (N,) -> (N,). No gradients."""
        weight = self.weight if weight is None else weight
        block = BLOCK if hidden.device.type == "cpu" else GPU_BLOCK
        parts = [
            F.cross_entropy(
                F.linear(rows, weight, self.bias).float(),
                wanted,
                ignore_index=PAD_ID,
                reduction="none",
            )
            for rows, wanted in zip(
                torch.split(hidden, block), torch.split(targets, block), strict=True
            )
        ]
        return torch.cat(parts)

    def summed_nats(self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """The sum of ``nats`` with its gradients: (N, H), (N,) -> scalar.

        Under autocast, logits and their gradients are rounded to bf16 while sums within matrix
        products and the softmax stay fp32: good for training, while ``nats`` is what to report.
        """
        weight = self.weight if weight is None else weight
        device = hidden.device.type
        low = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if low else hidden.dtype
        with torch.autocast(device, enabled=False):
            total: Tensor = _SummedNats.apply(hidden, weight, self.bias, targets, dtype)  # type: ignore[no-untyped-call]
        return total
