"""Linear layer and cross-entropy, block by block.

The (N, V) logits would be the largest tensor of a training step, and autograd would keep two more
of their size. Here the logits of a block of rows exist at a time, and the gradients are computed
with them, in the forward pass.

Axes: N rows (tokens), H hidden, V vocabulary (or the part of it that a softmax covers).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from korlm.utils import threads

BLOCK = 1 << 22  # logits per block on a CPU, 16 MB: 238 rows of 17,568; smaller ones are slower
GPU_BLOCK = 1 << 25


def block_rows(device: torch.device, vocab_size: int) -> int:
    """Return how many rows of logits to compute at once."""
    block = BLOCK if device.type == "cpu" else GPU_BLOCK
    return max(1, block // vocab_size)


class LinearCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of a linear layer; forward computes the gradients, backward scales them.

    ``apply(hidden (N, H), weight (V, H), bias (V,), targets int64 (N,), ignore_index, dtype)``
    returns a scalar. Up to rounding it equals

        F.cross_entropy(F.linear(hidden, weight, bias), targets, None, ignore_index=ignore_index,
                        reduction="sum")

    with matrix products in ``dtype`` and the softmax in that of ``hidden``. A second derivative
    raises a ``RuntimeError``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        ignore_index: int,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return the loss; keep its gradients for backward."""
        weight_lp, bias_lp, hidden_lp = (part.to(dtype) for part in (weight, bias, hidden))
        grad_hidden = torch.empty_like(hidden)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        loss = hidden.new_zeros(())
        is_target = targets != ignore_index
        targets = torch.where(is_target, targets, 0)
        block = block_rows(hidden.device, len(weight))
        with threads.matmul_threads(len(hidden) * weight.numel()):
            for begin in range(0, len(hidden), block):
                rows = slice(begin, begin + block)
                logits = F.linear(hidden_lp[rows], weight_lp, bias_lp).to(hidden.dtype)
                log_probs = logits.log_softmax(1)
                at_targets = targets[rows, None]
                mask = is_target[rows, None].to(hidden.dtype)  # 0 for ignored rows
                loss -= (log_probs.gather(1, at_targets) * mask).sum()
                # softmax - onehot(target), subtracted before rounding: the difference is small for
                # an almost certain token. In place: log_probs is not needed any more.
                grad_logits = log_probs.exp_().scatter_add_(1, at_targets, -torch.ones_like(mask))
                grad_bias.addmv_(grad_logits.t(), mask[:, 0])
                grad_logits = grad_logits.to(dtype)
                grad_hidden[rows] = (grad_logits @ weight_lp) * mask
                masked_hidden = hidden_lp[rows] * mask.to(dtype)
                if dtype is weight.dtype:
                    grad_weight.addmm_(grad_logits.t(), masked_hidden)
                else:
                    grad_weight += grad_logits.t() @ masked_hidden
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients, scaled by that of the loss."""
        (scale,) = grads
        saved = ctx.saved_tensors
        with threads.elementwise_threads(saved[1].numel()):
            return *(grad * scale for grad in saved), None, None, None


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    ignore_index: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return the summed cross-entropy of a linear layer, see ``LinearCrossEntropy``."""
    loss: Tensor = LinearCrossEntropy.apply(hidden, weight, bias, targets, ignore_index, dtype)  # type: ignore[no-untyped-call]
    return loss


def blockwise_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, ignore_index: int
) -> Tensor:
    """Return -ln p of each target, float32 (N,); 0 where the target is ``ignore_index``.

    The logits of one block exist at a time, if no gradients are recorded.
    """
    with threads.matmul_threads(len(hidden) * weight.numel()):
        block = block_rows(hidden.device, weight.shape[0])
        blocks = zip(torch.split(hidden, block), torch.split(targets, block), strict=True)
        return torch.cat(
            [
                F.cross_entropy(
                    F.linear(rows, weight, bias).float(),
                    row_targets,
                    ignore_index=ignore_index,
                    reduction="none",
                )
                for rows, row_targets in blocks
            ]
        )


def logits_and_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return shifted logits, log partition function and entropy of a softmax.

    With logits l <= 0 and Z = sum(e^l): ln p = l - ln Z, and the entropy is
    ln Z - sum(e^l l) / Z. Both terms are positive, so no precision is lost by cancellation.

    Returns:
        logits (N, V), shifted so that the maximum of each row is 0; ln Z (N,); entropy in nats
        (N,); all float32.
    """
    logits = F.linear(hidden, weight, bias).float()
    logits -= logits.amax(1, keepdim=True)
    exps = logits.exp()
    sums = exps.sum(1)
    log_sums = sums.log()
    return logits, log_sums, log_sums - torch.linalg.vecdot(exps, logits) / sums
