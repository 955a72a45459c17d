"""Adaptive softmax with exact probabilities (Grave et al. 2017).

Axes: N rows (tokens), H hidden, V vocabulary, C clusters.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import NeuralConfig, Softmax
from korlm.dataset.vocab import PAD_ID
from korlm.modules.fused_cross_entropy import (
    blockwise_cross_entropy,
    linear_cross_entropy,
    logits_and_entropy,
)
from korlm.modules.softmax import SoftmaxHead
from korlm.utils import threads

Clusters = Sequence[tuple[int, int]]  # ranges of ids [begin, end) after the shortlist


def _assign_clusters(targets: Tensor, clusters: Clusters) -> tuple[Tensor, list[Tensor]]:
    """Return the targets of the head softmax, and the rows whose target is in each cluster.

    The former, int64 (N,), are the target itself if it is in the shortlist, else shortlist +
    cluster number.
    """
    shortlist = clusters[0][0]
    head_targets, rows_of = targets, []
    for number, (begin, end) in enumerate(clusters):
        rows_of.append(((targets >= begin) & (targets < end)).nonzero()[:, 0])
        head_targets = head_targets.index_fill(0, rows_of[-1], shortlist + number)
    return head_targets, rows_of


class AdaptiveSoftmaxHead(SoftmaxHead):
    """Adaptive softmax (Grave et al. 2017, "Efficient softmax approximation for GPUs").

    Ids are sorted by falling frequency. The head softmax is over the shortlist of frequent tokens
    and one gate per cluster of rarer tokens; a second softmax is over the tokens of one cluster:
    p(w) = p(cluster of w) p(w | cluster). For the loss and ``token_nll``, a cluster is computed
    only for rows whose target is in it; ``log_probs`` and the entropy need all clusters. Unlike
    Grave's, clusters have the full width H, so the weights can be tied to the embedding.

    Args:
        hidden_dim: H.
        vocab_size: V.
        weight: (V, H) to share with the embedding, or None for a new one.
        cutoffs: rising ids at which clusters begin; the first is above PAD_ID and below V, others
            of V or more are ignored.
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
        """See ``SoftmaxHead``; the bias of a gate is the log frequency of its cluster."""
        super().init_bias_from_counts(counts)
        for number, (begin, end) in enumerate(self.clusters):
            self.gate_bias[number] = self.bias[begin:end].logsumexp(0)

    @property
    def shortlist(self) -> int:
        """Return the number of tokens in the head softmax."""
        return self.clusters[0][0]

    def _head(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the head softmax: shortlist, then gates."""
        size = self.shortlist
        return (
            torch.cat([weight[:size], self.gates]),
            torch.cat([self.bias[:size], self.gate_bias]),
        )

    def _tails(self, weight: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield first id, weight and bias of each cluster."""
        for begin, end in self.clusters:
            yield begin, weight[begin:end], self.bias[begin:end]

    def log_probs(self, hidden: Tensor, weight: Tensor | None = None) -> Tensor:
        """See ``SoftmaxHead.log_probs``."""
        weight = self.weight if weight is None else weight
        with threads.matmul_threads(hidden.numel() * len(weight)):
            head = F.log_softmax(F.linear(hidden, *self._head(weight)).float(), dim=-1)
            parts = [head[..., : self.shortlist]]
            for number, (_, tail_weight, bias) in enumerate(self._tails(weight)):
                gate = head[..., self.shortlist + number, None]
                tail = F.log_softmax(F.linear(hidden, tail_weight, bias).float(), dim=-1)
                parts.append(gate + tail)
            return torch.cat(parts, -1)

    def token_nll(self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """See ``SoftmaxHead.token_nll``."""
        weight = self.weight if weight is None else weight
        head_targets, rows_of = _assign_clusters(targets, self.clusters)
        nll = blockwise_cross_entropy(hidden, *self._head(weight), head_targets, PAD_ID)
        for rows, (begin, tail_weight, bias) in zip(rows_of, self._tails(weight), strict=True):
            if len(rows):
                tail_nll = blockwise_cross_entropy(
                    hidden[rows], tail_weight, bias, targets[rows] - begin, -1
                )
                nll = nll.index_add(0, rows, tail_nll)
        return nll

    def _nll_and_entropy(
        self, hidden: Tensor, targets: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Apply the chain rule: entropy of the head + sum of p(cluster) * entropy within it."""
        head_targets, rows_of = _assign_clusters(targets, self.clusters)
        logits, log_sums, entropy = logits_and_entropy(hidden, *self._head(weight))
        nll = log_sums - logits.gather(1, head_targets[:, None])[:, 0]
        gates = (logits[:, self.shortlist :] - log_sums[:, None]).exp()
        tails = zip(rows_of, self._tails(weight), gates.unbind(1), strict=True)
        for rows, (begin, tail_weight, bias), gate in tails:
            logits, log_sums, tail_entropy = logits_and_entropy(hidden, tail_weight, bias)
            entropy = entropy + gate * tail_entropy
            target_logits = logits[rows, targets[rows] - begin]
            nll = nll.index_add(0, rows, log_sums[rows] - target_logits)
        return nll, entropy

    def _cross_entropy_sum(
        self, hidden: Tensor, targets: Tensor, weight: Tensor, dtype: torch.dtype
    ) -> Tensor:
        # Split once: the gradients of the parts are then concatenated, not added up.
        sizes = [self.shortlist, *(end - begin for begin, end in self.clusters)]
        first_weight, *tail_weights = torch.split(weight, sizes)
        head_targets, rows_of = _assign_clusters(targets, self.clusters)
        head = self._head(first_weight)
        loss = linear_cross_entropy(hidden, *head, head_targets, ignore_index=PAD_ID, dtype=dtype)
        tails = zip(rows_of, tail_weights, self.clusters, strict=True)
        for rows, tail_weight, (begin, end) in tails:
            inputs, within = hidden.index_select(0, rows), targets[rows] - begin
            tail_bias = self.bias[begin:end]
            loss = loss + linear_cross_entropy(inputs, tail_weight, tail_bias, within, -1, dtype)
        return loss


def build_output(
    config: NeuralConfig, hidden_dim: int, vocab_size: int, weight: Tensor | None
) -> SoftmaxHead:
    """Return the softmax head of the settings; for the arguments see ``SoftmaxHead``."""
    cutoffs = config.cutoffs
    if config.softmax is Softmax.full or cutoffs[0] >= vocab_size:
        return SoftmaxHead(hidden_dim, vocab_size, weight)
    return AdaptiveSoftmaxHead(hidden_dim, vocab_size, weight, cutoffs)
