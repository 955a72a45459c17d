"""Text drawn from a language model, token by token."""

from __future__ import annotations

import torch

from korlm.data.vocab import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from korlm.models.base import LanguageModel


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
    state = model.begin(1)
    device = state[0].device
    ids = [start_id]
    for _ in range(num_tokens):
        log_probs, state = model.step(torch.tensor(ids[-1:], device=device), state)
        scores = log_probs[0].cpu().double() / temperature
        scores[[PAD_ID, BOS_ID, UNK_ID]] = -torch.inf
        if not scores.isfinite().any():  # unsmoothed counts may know nothing but <unk> here
            scores[EOS_ID] = 0.0
        ids.append(int(torch.multinomial(scores.softmax(0), 1, generator=generator)))
    return ids[1:]
