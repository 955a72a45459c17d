"""Linear layer and cross-entropy in one pass, forward and backward together.

The (N, V) logits are the largest tensor of a training step. They are computed once, turned into
their own gradient in the same buffer, and used while they are in the processor's cache.

Axes: N rows (tokens), H hidden, V vocabulary (or the part of it that a softmax covers).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from korlm.utils import threads

BLOCK = 1 << 20  # logits per block and thread on a CPU: 122 rows of 8,600, 2 MB in bf16
GPU_BLOCK = 1 << 25

MAX_UNSHIFTED_SUM = 1e20  # a sum of exponentials beyond it or its inverse is recomputed, shifted


def block_rows(device: torch.device, vocab_size: int) -> int:
    """Return how many rows of logits to compute at once."""
    block = BLOCK * torch.get_num_threads() if device.type == "cpu" else GPU_BLOCK
    return max(1, block // vocab_size)


def append_ones(hidden: Tensor) -> Tensor:
    """Append a column of ones, whose weight is the bias: (N, H) -> (N, H + 1)."""
    return torch.cat([hidden, hidden.new_ones(hidden.shape[0], 1)], 1)


def append_bias(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Append the bias as a column, converted to ``dtype``: (V, H), (V,) -> (V, H + 1)."""
    weight_bias = weight.new_empty(weight.shape[0], weight.shape[1] + 1, dtype=dtype)
    weight_bias[:, :-1], weight_bias[:, -1] = weight, bias  # copies and converts in one pass
    return weight_bias


def copy_scaled_(out: Tensor, grad: Tensor, scale: Tensor) -> Tensor:
    """Write ``grad`` * ``scale`` to ``out``, multiplied in the dtype of ``out``; return ``out``."""
    with threads.elementwise_threads(grad.numel()):
        return out.copy_(grad).mul_(scale)


def cross_entropy_forward_backward(
    hidden_1: Tensor, weight_bias: Tensor, targets: Tensor, target_mask: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the summed cross-entropy of a linear layer and its gradients.

    Up to rounding it equals

        logits = F.linear(hidden_1, weight_bias)
        nll = F.cross_entropy(logits, targets, reduction="none")
        loss = (nll * target_mask[:, 0]).sum()
        return loss, *torch.autograd.grad(loss, (hidden_1, weight_bias))

    The gradient of a row's nll with respect to its logits is softmax - onehot(target). With
    Z = sum(exp(logits)), it is (exp(logits) - Z onehot(target)) / Z. The matrix products use the
    numerator, and the division by Z is applied to their small operand or result.

    Args:
        hidden_1: (N, H + 1), hidden states with a column of ones (``append_ones``).
        weight_bias: (V, H + 1) in ``dtype`` (``append_bias``).
        targets: int64 (N,).
        target_mask: bool (N, 1), False for rows that do not count.
        dtype: of the matrix products.

    Returns:
        loss, a scalar in the dtype of ``hidden_1``; grad_hidden_1, (N, H + 1) in the same dtype;
        grad_weight_bias, (V, H + 1) in ``dtype``.
    """
    with threads.matmul_threads(len(hidden_1) * weight_bias.numel()):
        rows, block = hidden_1.shape[0], block_rows(hidden_1.device, weight_bias.shape[0])
        hidden_lp = hidden_1.to(dtype)
        # One buffer (N, V): logits, then exp(logits), then the unnormalized gradient.
        buffer = hidden_lp.new_empty(rows, weight_bias.shape[0])
        target_logits, sums = hidden_1.new_empty(rows, 1), hidden_1.new_empty(rows, 1)
        # exp needs no shift by the maximum while its sum Z neither overflows nor vanishes. On a CPU
        # trying without one saves two passes; a GPU would have to synchronize to check.
        try_unshifted = hidden_1.device.type == "cpu"
        for begin in range(0, rows, block):
            part = slice(begin, begin + block)
            for shift in (False, True) if try_unshifted else (True,):
                # Logits.
                logits = torch.mm(hidden_lp[part], weight_bias.t(), out=buffer[part])
                if shift:
                    logits -= logits.amax(1, keepdim=True)
                target_logits[part] = logits.gather(1, targets[part, None])
                # Partition function Z.
                sums[part] = logits.exp_().sum(1, keepdim=True, dtype=hidden_1.dtype)
                if not shift and bool(
                    ((sums[part] > 1 / MAX_UNSHIFTED_SUM) & (sums[part] < MAX_UNSHIFTED_SUM)).all()
                ):
                    break
        loss = torch.where(target_mask, sums.log() - target_logits, 0.0).sum()

        # Gradient. The subtraction is done in the dtype of Z: for an almost certain token the
        # difference is small and would be lost in bf16.
        grad_logits = buffer
        at_target = (torch.arange(rows, device=hidden_1.device), targets)
        grad_logits[at_target] = (grad_logits[at_target].to(sums.dtype) - sums[:, 0]).to(dtype)
        scale = target_mask / sums
        # (hidden_1 * scale).t() @ grad_logits is 5 % faster, but transposing its result costs more.
        grad_weight_bias = grad_logits.t() @ (hidden_1 * scale).to(dtype)
        return loss, (grad_logits @ weight_bias) * scale, grad_weight_bias


def blockwise_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, ignore_index: int
) -> Tensor:
    """Return -ln p of each target, float32 (N,); 0 where the target is ``ignore_index``.

    The logits of one block exist at a time, if no gradients are recorded.
    """
    with threads.matmul_threads(len(hidden) * weight.numel()):
        block = block_rows(hidden.device, weight.shape[0])
        if not torch.is_grad_enabled():  # as in ``SoftmaxHead.token_nll_and_entropy``
            block *= 3
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


def log_softmax_with_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return shifted logits, log partition function and entropy of a softmax.

    With logits l <= 0 and Z = sum(e^l): ln p = l - ln Z, and the entropy is
    ln Z - sum(e^l l) / Z. Both terms are positive, so no precision is lost by cancellation.

    Args:
        hidden: (N, H).
        weight: (V, H).
        bias: (V,).

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
