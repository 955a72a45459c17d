"""Adaptive softmax with exact probabilities (Grave et al. 2017)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import NeuralConfig, Softmax
from korlm.dataset.vocab import PAD_ID
from korlm.modules.fused_cross_entropy import (
    _cross_entropy,
    _with_bias,
    _with_ones,
    copy_scaled_,
    cross_entropy_forward_backward,
    log_softmax_with_entropy,
)
from korlm.modules.softmax import SoftmaxHead
from korlm.utils import threads


def _assign_clusters(
    targets: Tensor, clusters: Sequence[tuple[int, int]]
) -> tuple[Tensor, list[Tensor]]:
    """What the first softmax is to choose, int64 (N,), and which rows each cluster decides."""
    head_targets, rows_of = targets, []
    for gate, (begin, end) in enumerate(clusters, start=clusters[0][0]):
        rows_of.append(((targets >= begin) & (targets < end)).nonzero()[:, 0])
        head_targets = head_targets.index_fill(0, rows_of[-1], gate)
    return head_targets, rows_of


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
        grad_hidden = torch.zeros_like(read)
        nats = hidden.new_zeros(())
        parts: list[Tensor] = []
        shortlist = clusters[0][0]
        head_targets, rows_of = _assign_clusters(targets, clusters)
        for rows, (begin, end) in zip(rows_of, clusters, strict=True):
            weight_bias = _with_bias(weight[begin:end], bias[begin:end], dtype)
            real = torch.ones_like(rows, dtype=torch.bool)[:, None]
            cost, by_rows, by_part = cross_entropy_forward_backward(
                read[rows], weight_bias, targets[rows] - begin, real, dtype
            )
            nats += cost
            grad_hidden.index_add_(0, rows, by_rows)
            parts.append(by_part)
        head = torch.cat(
            [
                _with_bias(weight[:shortlist], bias[:shortlist], dtype),
                _with_bias(gates, gate_bias, dtype),
            ]
        )
        real = (targets != PAD_ID)[:, None]
        cost, by_rows, by_head = cross_entropy_forward_backward(
            read, head, head_targets, real, dtype
        )
        ctx.save_for_backward(grad_hidden + by_rows, by_head, *parts)
        return nats + cost

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, by_head, *parts = ctx.saved_tensors
        scale = grads[0]
        num_gates = len(parts)
        gates = by_head[-num_gates:]
        by_gates = copy_scaled_(scale.new_empty(gates.shape), gates, scale)
        parts.insert(0, by_head[:-num_gates])
        size = sum(len(part) for part in parts)
        by_weight = by_gates.new_empty(size, grad_hidden.shape[1] - 1)
        by_bias = by_gates.new_empty(size)
        begin = 0
        for part in parts:
            end = begin + len(part)
            copy_scaled_(by_weight[begin:end], part[:, :-1], scale)
            copy_scaled_(by_bias[begin:end], part[:, -1], scale)
            begin = end
        by_parameters = (by_weight, by_bias, by_gates[:, :-1], by_gates[:, -1])
        return (grad_hidden[:, :-1] * scale, *by_parameters, None, None, None)


class AdaptiveSoftmaxHead(SoftmaxHead):
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
    def init_bias_from_counts(self, counts: Sequence[int]) -> None:
        """See ``SoftmaxHead``; a gate begins with the share of its cluster."""
        super().init_bias_from_counts(counts)
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
        """See ``SoftmaxHead.log_probs``."""
        weight = self.weight if weight is None else weight
        with threads.matmul_threads(hidden.numel() * len(weight)):
            head = F.log_softmax(F.linear(hidden, *self._head(weight)).float(), dim=-1)
            parts = [head[..., : self._shortlist]]
            for number, (_, part, bias) in enumerate(self._tails(weight)):
                gate = head[..., self._shortlist + number, None]
                inside = F.log_softmax(F.linear(hidden, part, bias).float(), dim=-1)
                parts.append(gate + inside)
            return torch.cat(parts, -1)

    def token_nll(self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """See ``SoftmaxHead.token_nll``."""
        weight = self.weight if weight is None else weight
        head_targets, rows_of = _assign_clusters(targets, self.clusters)
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
        head_targets, rows_of = _assign_clusters(targets, self.clusters)
        logits, log_sums, entropy = log_softmax_with_entropy(hidden, *self._head(weight))
        nats = log_sums - logits.gather(1, head_targets[:, None])[:, 0]
        gates = (logits[:, self._shortlist :] - log_sums[:, None]).exp()
        tails = zip(rows_of, self._tails(weight), gates.unbind(1), strict=True)
        for rows, (begin, part, bias), gate in tails:
            logits, log_sums, inside = log_softmax_with_entropy(hidden, part, bias)
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


def build_output(
    config: NeuralConfig, hidden_dim: int, vocab_size: int, weight: Tensor | None
) -> SoftmaxHead:
    """The output layer of the settings; arguments as of ``SoftmaxHead``."""
    cutoffs = config.cutoffs
    if config.softmax is Softmax.full or cutoffs[0] >= vocab_size:
        return SoftmaxHead(hidden_dim, vocab_size, weight)
    return AdaptiveSoftmaxHead(hidden_dim, vocab_size, weight, cutoffs)
