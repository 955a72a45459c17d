"""The neural cache (Grave et al. 2017, "Improving Neural Language Models with a Continuous Cache").

What was read lately is likely to come again, the likelier the more the hidden state of now looks
like the one before it came (equation 3, with the i that lie in the cache):

    p_cache(w | h_t) ~ sum_i 1{w_i = w} exp(theta h_t . h_i)

h_i is what w_i was predicted from. Mixed with the model's own prediction (equation 4 and 5), this
costs no training and no parameter but theta and the weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CacheSetting = tuple[int, float]  # size, theta


class NeuralCache:
    """The last hidden states and the tokens that followed them.

    Args:
        vocab_size: V; an empty cache gives each token 1 / V.
        settings: (size, theta) each, several at once. Size is the number of states that are kept;
            theta says how much likeness counts, and with 0 the cache is a unigram model of the last
            tokens.
    """

    def __init__(self, vocab_size: int, settings: Sequence[CacheSetting]) -> None:
        self.settings = tuple(settings)
        self._vocab_size = vocab_size
        self._capacity = max(size for size, _ in settings)
        self._hidden: Tensor | None = None  # (P, H)
        self._tokens: Tensor | None = None  # (P,)

    @torch.inference_mode()
    def look_up(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The next tokens' probabilities, each under the states before it; then they are kept too.

        Args:
            hidden: (T, H).
            targets: int64 (T,).

        Returns:
            float64 (S, T), a row for each of the settings; 0 for a token that is not in the cache.
        """
        if self._hidden is None or self._tokens is None:
            self._hidden, self._tokens = hidden[:0], targets[:0]
        past = len(self._tokens)
        keys, tokens = torch.cat([self._hidden, hidden]), torch.cat([self._tokens, targets])
        same = tokens == targets[:, None]  # (T, P + T)
        likeness = hidden @ keys.t()
        place = torch.arange(len(tokens), device=hidden.device)
        now = place[past:, None]
        found = []
        for size, theta in self.settings:
            near = slice(max(past - size, 0), None)  # none of the tokens looks farther back
            kept = (place[near] < now) & (place[near] >= now - size)
            scores = (theta * likeness[:, near]).masked_fill_(~kept, -torch.inf)
            shares = scores.softmax(1).mul_(same[:, near])
            found.append(shares.sum(1, dtype=torch.float64))
        probs = torch.stack(found)
        if past == 0:
            probs[:, 0] = 1 / self._vocab_size
        self._hidden, self._tokens = keys[-self._capacity :], tokens[-self._capacity :]
        return probs
