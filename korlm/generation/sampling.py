"""Sample tokens from a language model.

``<pad>``, ``<bos>`` and ``<unk>`` are never sampled, and the other probabilities are renormalized.
Axes: B batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from korlm.models.base import LanguageModel
from korlm.modules.base import State

BANNED_IDS = (PAD_ID, BOS_ID, UNK_ID)


@dataclass(frozen=True)
class Sampling:
    """Settings of sampling.

    Attributes:
        temperature: below 1 sharpens the distribution, above 1 flattens it; 0: greedy decoding.
        top_k: number of most probable tokens to sample from; None: all.
        top_p: nucleus sampling (Holtzman et al. 2020): sample from the smallest set of tokens with
            this probability; 1: from all.
        repetition_penalty: of Keskar et al. 2019 (CTRL), section 4.1, on log probabilities: the
            probability of a token that the text already contains is raised to this power.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def probs(self, scores: Tensor, previous_ids: Collection[int] = ()) -> Tensor:
        """Return the distribution to sample from; float64 (V,), sums to 1.

        Args:
            scores: natural log probabilities, (V,); at least one must be finite.
            previous_ids: tokens that the text already contains.

        >>> Sampling(top_p=0.6).probs(torch.tensor([0.5, 0.3, 0.2]).log())
        tensor([0.6250, 0.3750, 0.0000], dtype=torch.float64)
        """
        scores = scores.double()
        if self.repetition_penalty != 1 and previous_ids:
            ids = torch.tensor(sorted(previous_ids), device=scores.device)
            scores = scores.index_copy(0, ids, scores[ids] * self.repetition_penalty)
        if self.temperature == 0:
            return torch.zeros_like(scores).index_fill(0, scores.argmax(), 1.0)
        probs = ((scores - scores.max()) / self.temperature).softmax(0)
        if self.top_k is None and self.top_p == 1:
            return probs
        # Stable: of equally probable tokens the one with the smaller id is kept.
        kept, order = probs.sort(descending=True, stable=True)
        if self.top_k is not None:
            kept[self.top_k :] = 0.0
        kept /= kept.sum()
        before = kept.cumsum(0) - kept  # 0 for the most probable token, which is always kept
        kept[before >= self.top_p] = 0.0
        return torch.zeros_like(probs).index_copy(0, order, kept / kept.sum())

    def sample(
        self, scores: Tensor, generator: torch.Generator, previous_ids: Collection[int] = ()
    ) -> int:
        """Return a token sampled from ``probs``; ``generator`` must be on the CPU."""
        probs = self.probs(scores.cpu(), previous_ids)
        return int(torch.multinomial(probs, 1, generator=generator))


def mask_banned(
    log_probs: Tensor, banned_ids: Collection[int] = BANNED_IDS, starts_sentence: bool = False
) -> Tensor:
    """Return a copy of log probabilities (V,) with -inf for tokens that must not follow.

    If no other token is possible (unsmoothed n-gram models), <eos> gets probability 1.

    ``starts_sentence`` also bans <eos>, so that no sentence is empty.
    """
    scores = log_probs.clone()
    scores[[*banned_ids, *([EOS_ID] if starts_sentence else [])]] = -torch.inf
    if not scores.isfinite().any():
        scores[EOS_ID] = 0.0
    return scores


def next_step(
    model: LanguageModel, ids: Tensor, state: State, start_id: int
) -> tuple[Tensor, State]:
    """Run ``LanguageModel.step``, with a fresh state after <eos> if sentences are independent.

    ``start_id`` is the input before a sentence. With <eos> the state is carried over to the next
    sentence; with <bos> each sentence starts from the initial state.
    """
    is_end = ids == EOS_ID
    if start_id != EOS_ID and bool(is_end.any()):
        initial = model.initial_state(len(ids))
        state = tuple(
            torch.where(is_end.view(-1, *[1] * (carried.dim() - 1)), new, carried)
            for new, carried in zip(initial, state, strict=True)
        )
        ids = ids.masked_fill(is_end, start_id)
    return model.step(ids, state)


@torch.inference_mode()
def sample_ids(
    model: LanguageModel, start_id: int, num_tokens: int, temperature: float, seed: int
) -> list[int]:
    """Return sampled tokens.

    ``start_id`` is the input before the text: <eos> for a stream, <bos> for a sentence. PyTorch's
    global generators are not used.
    """
    generator = torch.Generator().manual_seed(seed)
    sampling = Sampling(temperature)
    state = model.initial_state(1)
    ids = [start_id]
    for _ in range(num_tokens):
        log_probs, state = model.step(torch.tensor(ids[-1:], device=state[0].device), state)
        ids.append(sampling.sample(mask_banned(log_probs[0]), generator))
    return ids[1:]
