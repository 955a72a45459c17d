"""Linear layer and cross-entropy in one autograd function, without (N, V) logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from korlm.utils import threads

BLOCK = 1 << 20  # logits done at once on a CPU: 122 rows of 8,600, which are 2 MB in bf16


GPU_BLOCK = 1 << 25


MAX_UNSHIFTED_SUM = (
    1e20  # sums of exponentials beyond it, or below its inverse, are done again with a shift
)


def _block_rows(device: torch.device, vocab_size: int) -> int:
    """Rows done at once."""
    block = BLOCK * torch.get_num_threads() if device.type == "cpu" else GPU_BLOCK
    return max(1, block // vocab_size)


def cross_entropy_forward_backward(
    read: Tensor, weight_bias: Tensor, targets: Tensor, real: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of -ln softmax(read both^T)[target] over real rows, and its gradients.

    The gradient of row n's nats with respect to its logits is softmax - onehot(target). With
    e = exp(logits) and Z their sum, the rows e - Z onehot(target) go into the matrix products as
    they are, and the division by Z is left to the small factor beside them: the large matrix is
    written once by the product, once by exp, and read by two products.

    Args:
        read: (N, H + 1), hidden states and a column of ones, whose weight is the bias.
        weight_bias: (V, H + 1), weight and bias, in ``dtype``.
        targets: int64 (N,).
        real: bool (N, 1), which rows count.
        dtype: of the matrix products.

    Returns:
        The sum, of read's dtype; its gradients by ``read``, (N, H + 1) of read's dtype, and by
        ``weight_bias``, (V, H + 1) in ``dtype``.
    """
    with threads.matmul_threads(len(read) * weight_bias.numel()):
        rows, block = read.shape[0], _block_rows(read.device, weight_bias.shape[0])
        low = read.to(dtype)
        slopes = low.new_empty(rows, weight_bias.shape[0])
        target_logits, sums = read.new_empty(rows, 1), read.new_empty(rows, 1)
        # exp of logits up to 46 in size needs no shift, which saves two passes; a GPU would have to
        # wait for the answer whether they are that small.
        may_be_safe = read.device.type == "cpu"
        for begin in range(0, rows, block):
            part = slice(begin, begin + block)
            for shift in (False, True) if may_be_safe else (True,):
                logits = torch.mm(low[part], weight_bias.t(), out=slopes[part])
                if shift:
                    logits -= logits.amax(1, keepdim=True)
                target_logits[part] = logits.gather(1, targets[part, None])
                sums[part] = logits.exp_().sum(1, keepdim=True, dtype=read.dtype)
                if not shift and bool(
                    ((sums[part] > 1 / MAX_UNSHIFTED_SUM) & (sums[part] < MAX_UNSHIFTED_SUM)).all()
                ):
                    break
        nats = torch.where(real, sums.log() - target_logits, 0.0).sum()
        # Subtracted in the width of the sums: where a token is all but certain, little is left, and
        # Z rounded to bf16 would drown it.
        at = (torch.arange(rows, device=read.device), targets)
        slopes[at] = (slopes[at].to(sums.dtype) - sums[:, 0]).to(dtype)
        scale = real / sums
        # The other way round the product is a twentieth faster, but turning its result is dearer.
        grad_weight_bias = slopes.t() @ (read * scale).to(dtype)
        return nats, (slopes @ weight_bias) * scale, grad_weight_bias


def _with_ones(hidden: Tensor) -> Tensor:
    return torch.cat([hidden, hidden.new_ones(hidden.shape[0], 1)], 1)


def _with_bias(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """(V, H) and (V,) -> (V, H + 1)."""
    weight_bias = weight.new_empty(weight.shape[0], weight.shape[1] + 1, dtype=dtype)
    weight_bias[:, :-1], weight_bias[:, -1] = weight, bias  # narrowed and put in place by one pass
    return weight_bias


def copy_scaled_(place: Tensor, part: Tensor, scale: Tensor) -> Tensor:
    """Writes a gradient times a scalar, multiplied in the width of the place; gives the place."""
    with threads.elementwise_threads(part.numel()):
        return place.copy_(part).mul_(scale)


def _cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, ignored: int
) -> Tensor:
    """-ln p of each target, float32 (N,), block by block; 0 where the target is ``ignored``."""
    with threads.matmul_threads(len(hidden) * weight.numel()):
        block = _block_rows(hidden.device, weight.shape[0])
        parts = [
            F.cross_entropy(
                F.linear(rows, weight, bias).float(), wanted, ignore_index=ignored, reduction="none"
            )
            for rows, wanted in zip(
                torch.split(hidden, block), torch.split(targets, block), strict=True
            )
        ]
        return torch.cat(parts)


def log_softmax_with_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One softmax, with a single pass of exp.

    With logits l <= 0 and Z the sum of their exponentials, ln p = l - ln Z and the entropy is
    ln Z - sum(e^l l) / Z: both terms are positive, and nothing is lost between them.

    Args:
        hidden: (N, H).
        weight: (V, H).
        bias: (V,).

    Returns:
        Logits (N, V), of which the largest of each row is 0; ln Z and entropy in nats, (N,) both;
        float32.
    """
    logits = F.linear(hidden, weight, bias).float()
    logits -= logits.amax(1, keepdim=True)
    exps = logits.exp()
    sums = exps.sum(1)
    log_sums = sums.log()
    return logits, log_sums, log_sums - torch.linalg.vecdot(exps, logits) / sums
