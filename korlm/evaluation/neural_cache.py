"""Look up tokens in a neural cache.

Grave et al. 2017, "Improving Neural Language Models with a Continuous Cache". The cache assigns
probability to recent tokens, weighted by the similarity of the hidden states that preceded them to
the current hidden state (equation 3, i over the cached positions):

    p_cache(w | h_t) ~ sum_i 1{w_i = w} exp(theta h_t . h_i)

where h_i is the hidden state that predicted w_i. The result is interpolated with the model's own
distribution (equations 4 and 5). Nothing is trained; the flatness theta, the cache size and the
interpolation weight are tuned on validation text.

Axes: K cache settings, P cached tokens, T time steps, H hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CacheSetting = tuple[int, float]  # size, flatness


class NeuralCache:
    """Cache of the last hidden states and the tokens that followed them.

    Args:
        vocab_size: V; an empty cache assigns 1 / V to every token.
        settings: (size, flatness) pairs that are evaluated at once. Size is the number of cached
            states; with flatness 0 the cache is a unigram model of the last tokens.
    """

    def __init__(self, vocab_size: int, settings: Sequence[CacheSetting]) -> None:
        self.settings = tuple(settings)
        self._vocab_size = vocab_size
        self._capacity = max(size for size, _ in settings)
        self._hidden: Tensor | None = None  # (P, H)
        self._tokens: Tensor | None = None  # (P,)

    @torch.inference_mode()
    def look_up(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the cache probability of each target, then add the targets to the cache.

        Args:
            hidden: (T, H).
            targets: int64 (T,).

        Returns:
            float64 (K, T), one row per setting; 0 for tokens that are not in the cache.
        """
        if self._hidden is None or self._tokens is None:
            self._hidden, self._tokens = hidden[:0], targets[:0]
        num_past = len(self._tokens)
        keys, tokens = torch.cat([self._hidden, hidden]), torch.cat([self._tokens, targets])
        is_target = tokens == targets[:, None]  # (T, P + T)
        similarity = hidden @ keys.t()
        index = torch.arange(len(tokens), device=hidden.device)
        query = index[num_past:, None]
        rows = []
        for size, flatness in self.settings:
            reachable = slice(max(num_past - size, 0), None)
            in_cache = (index[reachable] < query) & (index[reachable] >= query - size)
            logits = (flatness * similarity[:, reachable]).masked_fill_(~in_cache, -torch.inf)
            attention = logits.softmax(1).mul_(is_target[:, reachable])
            rows.append(attention.sum(1, dtype=torch.float64))
        probs = torch.stack(rows)
        if num_past == 0:
            probs[:, 0] = 1 / self._vocab_size
        self._hidden, self._tokens = keys[-self._capacity :], tokens[-self._capacity :]
        return probs
