"""Tokens drawn from a language model, one after the other.

What every search leaves out: ``<pad>`` and ``<bos>``, which no text holds, and ``<unk>``, which
nobody could read. The rest is renormalised. Axes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from korlm.models.base import LanguageModel
from korlm.modules.state import State

UNWRITABLE = (PAD_ID, BOS_ID, UNK_ID)


@dataclass(frozen=True)
class Sampling:
    """How to draw from a distribution.

    Attributes:
        temperature: below 1 sharpens it, above 1 flattens it; 0: always the likeliest token.
        top_k: draw from so many of the likeliest tokens; None: from all.
        top_p: draw from the fewest tokens with this share of the probability (Holtzman et al.
            2020, "nucleus"); 1: from all.
        repetition_penalty: of Keskar et al. 2019 (CTRL), section 4.1, on log-probabilities: a
            token that the text has already counts with its probability to the power of this.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def probs(self, scores: Tensor, used: Collection[int] = ()) -> Tensor:
        """The distribution to draw from; float64 (V,), adds up to 1.

        Args:
            scores: natural logs of probabilities, (V,); -inf: never. One at least is finite.
            used: tokens that the text has already.

        >>> Sampling(top_p=0.6).probs(torch.tensor([0.5, 0.3, 0.2]).log())
        tensor([0.6250, 0.3750, 0.0000], dtype=torch.float64)
        """
        scores = scores.double()
        if self.repetition_penalty != 1 and used:
            rows = torch.tensor(sorted(used), device=scores.device)
            scores = scores.index_copy(0, rows, scores[rows] * self.repetition_penalty)
        if self.temperature == 0:
            return torch.zeros_like(scores).index_fill(0, scores.argmax(), 1.0)
        probs = ((scores - scores.max()) / self.temperature).softmax(0)
        if self.top_k is None and self.top_p == 1:
            return probs
        # Stable: of equal tokens the one with the smaller id counts as likelier.
        falling, order = probs.sort(descending=True, stable=True)
        kept = falling.clone()
        if self.top_k is not None:
            kept[self.top_k :] = 0.0
        kept /= kept.sum()
        before = kept.cumsum(0) - kept  # the likeliest token has nothing before it, and stays
        kept[before >= self.top_p] = 0.0
        return torch.zeros_like(probs).index_copy(0, order, kept / kept.sum())

    def draw(self, scores: Tensor, generator: torch.Generator, used: Collection[int] = ()) -> int:
        """A token drawn from ``probs``; arguments as there.

        Args:
            scores: (V,).
            generator: on the CPU, gives the random numbers.
            used: tokens that the text has already.
        """
        return int(torch.multinomial(self.probs(scores.cpu(), used), 1, generator=generator))


def mask_banned(
    log_probs: Tensor, banned: Collection[int] = UNWRITABLE, begins: bool = False
) -> Tensor:
    """Scores of what may be written next, a copy: log-probabilities (V,), -inf where it may not.

    Unsmoothed counts may know nothing but <unk> here: then the sentence ends.

    Args:
        log_probs: of the model.
        banned: tokens that are never written.
        begins: a sentence begins here, and none ends before it has a token.
    """
    scores = log_probs.clone()
    scores[[*banned, *([EOS_ID] if begins else [])]] = -torch.inf
    if not scores.isfinite().any():
        scores[EOS_ID] = 0.0
    return scores


def next_step(
    model: LanguageModel, ids: Tensor, state: State, start_id: int
) -> tuple[Tensor, State]:
    """One token further, as ``LanguageModel.step``, across the ends of sentences.

    Args:
        model: in evaluation mode.
        ids: int64 (B,).
        state: before them.
        start_id: what stands before a sentence: <eos>, which is read on, or <bos>, with which the
            model begins afresh.
    """
    ended = ids == EOS_ID
    if start_id != EOS_ID and bool(ended.any()):
        fresh = model.initial_state(len(ids))
        state = tuple(
            torch.where(ended.view(-1, *[1] * (old.dim() - 1)), new, old)
            for new, old in zip(fresh, state, strict=True)
        )
        ids = ids.masked_fill(ended, start_id)
    return model.step(ids, state)


@torch.inference_mode()
def sample_ids(
    model: LanguageModel, start_id: int, num_tokens: int, temperature: float, seed: int
) -> list[int]:
    """Draws tokens one after the other; <pad>, <bos> and <unk> are never drawn.

    Args:
        model: in evaluation mode.
        start_id: what stands before the text: <eos> for a stream, <bos> for a sentence.
        num_tokens: how many.
        temperature: below 1 sharpens the distribution, above 1 flattens it.
        seed: of the draws, which leave PyTorch's own generators alone.
    """
    generator = torch.Generator().manual_seed(seed)
    sampling = Sampling(temperature)
    state = model.initial_state(1)
    device = state[0].device
    ids = [start_id]
    for _ in range(num_tokens):
        log_probs, state = model.step(torch.tensor(ids[-1:], device=device), state)
        ids.append(sampling.draw(mask_banned(log_probs[0]), generator))
    return ids[1:]
