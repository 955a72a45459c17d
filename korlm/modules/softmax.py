"""Softmax head: hidden states -> log-probabilities or cross-entropy over the vocabulary.

It is the most expensive part of a training step; see ``fused_cross_entropy``.
Axes: N rows (tokens), H hidden, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.dataset.vocab import PAD_ID
from korlm.modules.fused_cross_entropy import (
    block_rows,
    blockwise_cross_entropy,
    linear_cross_entropy,
    logits_and_entropy,
)
from korlm.utils import threads


class SoftmaxHead(nn.Module):
    """A linear layer onto the vocabulary, followed by a softmax.

    All methods take an optional ``weight`` (V, H) that is used instead of ``self.weight``: the
    output weight of a tied embedding, see ``TokenEmbedding.embed``. The constructor's ``weight`` is
    shared with the embedding (Press and Wolf 2017); None: a new one.
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
        """Set the biases to log unigram frequencies (Meister et al. 2023).

        A zero hidden state then predicts the unigram distribution. Otherwise the first hundreds of
        steps learn token frequencies, and the recurrent weights learn them along with the biases.
        0.5 is added to the counts of all ids.
        """
        smoothed = torch.tensor(counts, dtype=torch.float64) + 0.5
        # Relative to the mean, so that biases are small: bf16 rounds by magnitude.
        self.bias.copy_((smoothed / smoothed.mean()).log())

    def log_probs(self, hidden: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return log-probabilities, (..., H) -> float32 (..., V)."""
        weight = self.weight if weight is None else weight
        with threads.matmul_threads(hidden.numel() * len(weight)):
            return F.log_softmax(F.linear(hidden, weight, self.bias).float(), dim=-1)

    def token_nll(self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return -ln p of each target, (N, H) and int64 (N,) -> float32 (N,); 0 for <pad>.

        It is differentiable, but ``cross_entropy_sum`` is faster in training.
        """
        weight = self.weight if weight is None else weight
        is_token = targets != PAD_ID
        # On a GPU selecting rows would synchronize.
        if torch.is_grad_enabled() or hidden.device.type != "cpu" or bool(is_token.all()):
            return blockwise_cross_entropy(hidden, weight, self.bias, targets, PAD_ID)
        nll = blockwise_cross_entropy(
            hidden[is_token], weight, self.bias, targets[is_token], PAD_ID
        )
        return nll.new_zeros(targets.shape).masked_scatter(is_token, nll)

    def token_nll_and_entropy(
        self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return -ln p of each target and the entropy of its distribution, in nats, block by block.

        ``hidden`` is (N, H), ``targets`` int64 (N,) without <pad>, and the results float32 (N,).
        """
        weight = self.weight if weight is None else weight
        with threads.matmul_threads(hidden.numel() * len(weight)):
            block = block_rows(hidden.device, weight.shape[0])
            blocks = zip(torch.split(hidden, block), torch.split(targets, block), strict=True)
            results = [self._nll_and_entropy(*rows, weight) for rows in blocks]
        nll, entropy = (torch.cat(parts) for parts in zip(*results, strict=True))
        return nll, entropy

    def _nll_and_entropy(
        self, hidden: Tensor, targets: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits, log_sums, entropy = logits_and_entropy(hidden, weight, self.bias)
        return log_sums - logits.gather(1, targets[:, None])[:, 0], entropy

    def cross_entropy_sum(
        self, hidden: Tensor, targets: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Return the sum of ``token_nll`` for training, (N, H) and int64 (N,) -> scalar.

        Under autocast, logits and their gradients are rounded to bf16; sums and the softmax stay
        in fp32. Report ``token_nll`` instead, which has exact logits without autocast.
        """
        weight = self.weight if weight is None else weight
        device = hidden.device.type
        is_autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if is_autocast else hidden.dtype
        with torch.autocast(device, enabled=False):
            return self._cross_entropy_sum(hidden.to(self.bias.dtype), targets, weight, dtype)

    def _cross_entropy_sum(
        self, hidden: Tensor, targets: Tensor, weight: Tensor, dtype: torch.dtype
    ) -> Tensor:
        return linear_cross_entropy(hidden, weight, self.bias, targets, PAD_ID, dtype)
