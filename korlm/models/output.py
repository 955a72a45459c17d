"""The output layer: hidden states -> log-probabilities or summed nats, the costly part of a step.

In training the whole softmax and its gradient are done in the forward pass: neither logits nor
probabilities of a whole batch are ever kept twice, and what is read again is still in the
processor's cache.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import NeuralConfig, Softmax
from korlm.data.vocab import PAD_ID
from korlm.models import threads

BLOCK = 1 << 20  # logits done at once on a CPU: 122 rows of 8,600, which are 2 MB in bf16
GPU_BLOCK = 1 << 25
SAFE = 1e20  # sums of exponentials beyond it, or below its inverse, are done again with a shift


def _block_rows(device: torch.device, vocab_size: int) -> int:
    """Rows done at once."""
    block = BLOCK * torch.get_num_threads() if device.type == "cpu" else GPU_BLOCK
    return max(1, block // vocab_size)


def _nats_and_slopes(
    read: Tensor, both: Tensor, targets: Tensor, real: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of -ln softmax(read both^T)[target] over real rows, and its gradients.

    The gradient of row n's nats with respect to its logits is softmax - onehot(target). With
    e = exp(logits) and Z their sum, the rows e - Z onehot(target) go into the matrix products as
    they are, and the division by Z is left to the small factor beside them: the large matrix is
    written once by the product, once by exp, and read by two products.

    Args:
        read: (N, H + 1), hidden states and a column of ones, whose weight is the bias.
        both: (V, H + 1), weight and bias, in ``dtype``.
        targets: int64 (N,).
        real: bool (N, 1), which rows count.
        dtype: of the matrix products.

    Returns:
        The sum in read's kind; its gradients by ``read`` and by ``both``, (N, H + 1) in read's kind
        and (V, H + 1) in ``dtype``.
    """
    with threads.product(len(read) * both.numel()):
        rows, block = read.shape[0], _block_rows(read.device, both.shape[0])
        low = read.to(dtype)
        slopes = low.new_empty(rows, both.shape[0])
        picked, sums = read.new_empty(rows, 1), read.new_empty(rows, 1)
        # exp of logits up to 46 in size needs no shift, which saves two passes; a GPU would have to
        # wait for the answer whether they are that small.
        may_be_safe = read.device.type == "cpu"
        for begin in range(0, rows, block):
            part = slice(begin, begin + block)
            for shift in (False, True) if may_be_safe else (True,):
                logits = torch.mm(low[part], both.t(), out=slopes[part])
                if shift:
                    logits -= logits.amax(1, keepdim=True)
                picked[part] = logits.gather(1, targets[part, None])
                sums[part] = logits.exp_().sum(1, keepdim=True, dtype=read.dtype)
                if not shift and bool(((sums[part] > 1 / SAFE) & (sums[part] < SAFE)).all()):
                    break
        nats = torch.where(real, sums.log() - picked, 0.0).sum()
        # Subtracted in the width of the sums: where a token is all but certain, little is left, and
        # Z rounded to bf16 would drown it.
        at = (torch.arange(rows, device=read.device), targets)
        slopes[at] = (slopes[at].to(sums.dtype) - sums[:, 0]).to(dtype)
        scale = real / sums
        # The other way round the product is a twentieth faster, but turning its result is dearer.
        by_both = slopes.t() @ (read * scale).to(dtype)
        return nats, (slopes @ both) * scale, by_both


def _with_ones(hidden: Tensor) -> Tensor:
    return torch.cat([hidden, hidden.new_ones(hidden.shape[0], 1)], 1)


def _with_bias(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """(V, H) and (V,) -> (V, H + 1)."""
    both = weight.new_empty(weight.shape[0], weight.shape[1] + 1, dtype=dtype)
    both[:, :-1], both[:, -1] = weight, bias  # narrowed and put in place by one pass
    return both


def _put_scaled(place: Tensor, part: Tensor, scale: Tensor) -> Tensor:
    """Writes a gradient times a scalar, multiplied in the width of the place; gives the place."""
    with threads.passing(part.numel()):
        return place.copy_(part).mul_(scale)


def _deal(targets: Tensor, clusters: Sequence[tuple[int, int]]) -> tuple[Tensor, list[Tensor]]:
    """What the first softmax is to choose, int64 (N,), and which rows each cluster decides."""
    head_targets, rows_of = targets, []
    for gate, (begin, end) in enumerate(clusters, start=clusters[0][0]):
        rows_of.append(((targets >= begin) & (targets < end)).nonzero()[:, 0])
        head_targets = head_targets.index_fill(0, rows_of[-1], gate)
    return head_targets, rows_of


class _SummedNats(torch.autograd.Function):
    """Full softmax; forward works out the gradients, backward scales them by what comes in."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        both = _with_bias(weight, bias, dtype)
        real = (targets != PAD_ID)[:, None]
        nats, *grads = _nats_and_slopes(_with_ones(hidden), both, targets, real, dtype)
        ctx.save_for_backward(*grads)
        return nats

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_read, by_both = ctx.saved_tensors
        scale = grads[0]
        size, width = by_both.shape
        by_weight = _put_scaled(scale.new_empty(size, width - 1), by_both[:, :-1], scale)
        by_bias = _put_scaled(scale.new_empty(size), by_both[:, -1], scale)
        return by_read[:, :-1] * scale, by_weight, by_bias, None, None


class _AdaptiveNats(torch.autograd.Function):
    """Adaptive softmax, the same way; ``clusters`` are the ranges of ids behind the shortlist."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        gates: Tensor,
        gate_bias: Tensor,
        targets: Tensor,
        clusters: Sequence[tuple[int, int]],
        dtype: torch.dtype,
    ) -> Tensor:
        read = _with_ones(hidden)
        by_read = torch.zeros_like(read)
        nats = hidden.new_zeros(())
        parts: list[Tensor] = []
        shortlist = clusters[0][0]
        head_targets, rows_of = _deal(targets, clusters)
        for rows, (begin, end) in zip(rows_of, clusters, strict=True):
            both = _with_bias(weight[begin:end], bias[begin:end], dtype)
            real = torch.ones_like(rows, dtype=torch.bool)[:, None]
            cost, by_rows, by_part = _nats_and_slopes(
                read[rows], both, targets[rows] - begin, real, dtype
            )
            nats += cost
            by_read.index_add_(0, rows, by_rows)
            parts.append(by_part)
        head = torch.cat(
            [
                _with_bias(weight[:shortlist], bias[:shortlist], dtype),
                _with_bias(gates, gate_bias, dtype),
            ]
        )
        real = (targets != PAD_ID)[:, None]
        cost, by_rows, by_head = _nats_and_slopes(read, head, head_targets, real, dtype)
        ctx.save_for_backward(by_read + by_rows, by_head, *parts)
        return nats + cost

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_read, by_head, *parts = ctx.saved_tensors
        scale = grads[0]
        num_gates = len(parts)
        gates = by_head[-num_gates:]
        by_gates = _put_scaled(scale.new_empty(gates.shape), gates, scale)
        parts.insert(0, by_head[:-num_gates])
        size = sum(len(part) for part in parts)
        by_weight = by_gates.new_empty(size, by_read.shape[1] - 1)
        by_bias = by_gates.new_empty(size)
        begin = 0
        for part in parts:
            end = begin + len(part)
            _put_scaled(by_weight[begin:end], part[:, :-1], scale)
            _put_scaled(by_bias[begin:end], part[:, -1], scale)
            begin = end
        by_parameters = (by_weight, by_bias, by_gates[:, :-1], by_gates[:, -1])
        return (by_read[:, :-1] * scale, *by_parameters, None, None, None)


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

    @torch.no_grad()
    def begin_with(self, counts: Sequence[int]) -> None:
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
        with threads.product(hidden.numel() * len(weight)):
            return F.log_softmax(F.linear(hidden, weight, self.bias).float(), dim=-1)

    def nats(self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """-ln p of each target, float32, 0 for <pad>: (N, H), (N,) -> (N,).

        Has gradients too, but ``summed_nats`` is the faster way to those of a training step.
        """
        weight = self.weight if weight is None else weight
        return _cross_entropy(hidden, weight, self.bias, targets, PAD_ID)

    def nats_and_entropy(
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
        with threads.product(hidden.numel() * len(weight)):
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
        logits, log_sums, entropy = _choice(hidden, weight, self.bias)
        return log_sums - logits.gather(1, targets[:, None])[:, 0], entropy

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
            return self._summed_nats(hidden.to(self.bias.dtype), targets, weight, dtype)

    def _summed_nats(
        self, hidden: Tensor, targets: Tensor, weight: Tensor, dtype: torch.dtype
    ) -> Tensor:
        total: Tensor = _SummedNats.apply(hidden, weight, self.bias, targets, dtype)  # type: ignore[no-untyped-call]
        return total


class AdaptiveOutputLayer(OutputLayer):
    """Adaptive softmax (Grave et al. 2017, "Efficient softmax approximation for GPUs").

    The vocabulary is sorted by falling frequency. A first softmax chooses among the shortlist and
    one gate for each cluster of rarer tokens, a second one within that cluster:
    p(w) = p(cluster of w) p(w | cluster). So rare tokens cost work only where one of them stands,
    and probabilities sum to one. Unlike Grave's, clusters keep the width of the rest, so that the
    weights can be those of the embedding.

    Args:
        hidden_dim: H of what comes in.
        vocab_size: V.
        weight: (V, H) to share with the embedding, or None for an own one.
        cutoffs: rising ids at which the clusters begin; those at V and beyond are of no use.
    """

    def __init__(
        self, hidden_dim: int, vocab_size: int, weight: Tensor | None, cutoffs: Sequence[int]
    ) -> None:
        super().__init__(hidden_dim, vocab_size, weight)
        bounds = [*(cutoff for cutoff in cutoffs if cutoff < vocab_size), vocab_size]
        self.clusters = list(itertools.pairwise(bounds))
        self.gates = nn.Parameter(torch.zeros(len(self.clusters), hidden_dim))
        self.gate_bias = nn.Parameter(torch.zeros(len(self.clusters)))

    @torch.no_grad()
    def begin_with(self, counts: Sequence[int]) -> None:
        """See ``OutputLayer.begin_with``; a gate begins with the share of its cluster."""
        super().begin_with(counts)
        for number, (begin, end) in enumerate(self.clusters):
            self.gate_bias[number] = self.bias[begin:end].logsumexp(0)

    @property
    def _shortlist(self) -> int:
        return self.clusters[0][0]

    def _head(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of the first softmax: shortlist, then gates."""
        size = self._shortlist
        return (
            torch.cat([weight[:size], self.gates]),
            torch.cat([self.bias[:size], self.gate_bias]),
        )

    def _tails(self, weight: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """First id, weight and bias of each cluster."""
        for begin, end in self.clusters:
            yield begin, weight[begin:end], self.bias[begin:end]

    def log_probs(self, hidden: Tensor, weight: Tensor | None = None) -> Tensor:
        """See ``OutputLayer.log_probs``."""
        weight = self.weight if weight is None else weight
        with threads.product(hidden.numel() * len(weight)):
            head = F.log_softmax(F.linear(hidden, *self._head(weight)).float(), dim=-1)
            parts = [head[..., : self._shortlist]]
            for number, (_, part, bias) in enumerate(self._tails(weight)):
                gate = head[..., self._shortlist + number, None]
                inside = F.log_softmax(F.linear(hidden, part, bias).float(), dim=-1)
                parts.append(gate + inside)
            return torch.cat(parts, -1)

    def nats(self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """See ``OutputLayer.nats``."""
        weight = self.weight if weight is None else weight
        head_targets, rows_of = _deal(targets, self.clusters)
        nats = _cross_entropy(hidden, *self._head(weight), head_targets, PAD_ID)
        for rows, (begin, part, bias) in zip(rows_of, self._tails(weight), strict=True):
            if len(rows):
                inside = _cross_entropy(hidden[rows], part, bias, targets[rows] - begin, -1)
                nats = nats.index_add(0, rows, inside)
        return nats

    def _block_nats_and_entropy(
        self, hidden: Tensor, targets: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The chain rule: the entropy of the first softmax, and p(cluster) times that within."""
        head_targets, rows_of = _deal(targets, self.clusters)
        logits, log_sums, entropy = _choice(hidden, *self._head(weight))
        nats = log_sums - logits.gather(1, head_targets[:, None])[:, 0]
        gates = (logits[:, self._shortlist :] - log_sums[:, None]).exp()
        tails = zip(rows_of, self._tails(weight), gates.unbind(1), strict=True)
        for rows, (begin, part, bias), gate in tails:
            logits, log_sums, inside = _choice(hidden, part, bias)
            entropy = entropy + gate * inside
            chosen = logits[rows, targets[rows] - begin]
            nats = nats.index_add(0, rows, log_sums[rows] - chosen)
        return nats, entropy

    def _summed_nats(
        self, hidden: Tensor, targets: Tensor, weight: Tensor, dtype: torch.dtype
    ) -> Tensor:
        gates = (self.gates, self.gate_bias)
        total: Tensor = _AdaptiveNats.apply(  # type: ignore[no-untyped-call]
            hidden, weight, self.bias, *gates, targets, self.clusters, dtype
        )
        return total


def _cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, ignored: int
) -> Tensor:
    """-ln p of each target, float32 (N,), block by block; 0 where the target is ``ignored``."""
    with threads.product(len(hidden) * weight.numel()):
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


def _choice(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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


def build_output(
    config: NeuralConfig, hidden_dim: int, vocab_size: int, weight: Tensor | None
) -> OutputLayer:
    """The output layer of the settings; arguments as of ``OutputLayer``."""
    cutoffs = config.cutoffs
    if config.softmax is Softmax.full or cutoffs[0] >= vocab_size:
        return OutputLayer(hidden_dim, vocab_size, weight)
    return AdaptiveOutputLayer(hidden_dim, vocab_size, weight, cutoffs)
