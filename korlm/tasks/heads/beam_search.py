"""Batched beam search of a decoder, with the penalties of Wu et al. 2016.

Axes: B sources, N hypotheses (beams), V vocabulary, S source tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from korlm.modules.state import State
from korlm.tasks.heads.attention import Memory
from korlm.tasks.heads.decoder import AttentionDecoder

BANNED_IDS = [PAD_ID, UNK_ID, BOS_ID]
MIN_COVERAGE = 1e-6  # of a source token that was not attended to; its logarithm must be finite


@dataclass(frozen=True)
class DecodedSequence:
    """A decoded text.

    Attributes:
        ids: its tokens, without <eos>.
        log_prob: natural log of its probability, <eos> included.
        score: ``log_prob`` / length penalty + coverage penalty; higher is better.
    """

    ids: tuple[int, ...]
    log_prob: float
    score: float


@dataclass(frozen=True)
class BeamSettings:
    """Settings of the search.

    Attributes:
        num_beams: hypotheses at each length; 1: the most probable token in each step.
        num_best: hypotheses returned for each source, at most ``num_beams``.
        length_penalty: alpha of Wu et al. 2016, equation 14; 0: none.
        coverage_penalty: beta of the same equation; 0: none.
    """

    num_beams: int = 5
    num_best: int = 1
    length_penalty: float = 0.0
    coverage_penalty: float = 0.0

    def length_divisor(self, length: int) -> float:
        """Return ((5 + length) / 6) ** alpha; <eos> counts."""
        return float(((5 + length) / 6) ** self.length_penalty)

    def coverage(self, attention: Tensor) -> Tensor:
        """Return beta * sum over the source of log min(attention, 1), (..., S) -> (...).

        ``attention`` is summed over the steps, and at least 1 for padding.
        """
        return self.coverage_penalty * attention.clamp(MIN_COVERAGE, 1).log().sum(-1)


@torch.inference_mode()
def batched_beam_search(
    decoder: AttentionDecoder,
    memory: Memory,
    state: State,
    max_lengths: Sequence[int],
    settings: BeamSettings,
) -> list[list[DecodedSequence]]:
    """Return the best hypotheses of each source, in descending order of their scores.

    A beam that ends in <eos> is complete and is not refilled, so that ``num_beams=1`` is greedy
    search. At the maximum length only <eos> may follow. A source is done when all beams are
    complete, or when none can become better than the best ``num_best`` complete ones.

    Args:
        decoder: in evaluation mode.
        memory: of B sources; it is not copied for the beams.
        state: of the decoder, each part has B rows.
        max_lengths: (B,), maximum number of tokens without <eos>.
        settings: of the search.
    """
    device = memory.values.device
    complete: list[list[DecodedSequence]] = [[] for _ in max_lengths]
    sources = list(range(len(max_lengths)))  # those that are still searched, b of them
    tokens = torch.full((len(sources), 1, 1), BOS_ID, device=device)  # (b, N, length)
    log_probs = torch.zeros(len(sources), 1, device=device)  # (b, N), -inf for complete beams
    attention = torch.zeros(len(sources), 1, memory.values.shape[1], device=device)
    if memory.mask is not None:
        attention = attention.masked_fill(~memory.mask[:, None], 1.0)
    length = 0
    while sources:
        length += 1
        step_log_probs, weights, state = decoder.step(tokens[..., -1], memory, state)
        at_limit = torch.tensor([length > max_lengths[source] for source in sources])
        totals = log_probs[..., None] + _allowed(step_log_probs, at_limit.to(device))  # (b, N, V)
        attention = attention + weights
        scores = totals / settings.length_divisor(length) + settings.coverage(attention)[..., None]

        top_scores, index = scores.flatten(1).topk(min(settings.num_beams, scores[0].numel()))
        log_probs = totals.flatten(1).gather(1, index)  # (b, N') from here on
        parents, ids = index // totals.shape[2], index % totals.shape[2]
        num_open = [settings.num_beams - len(complete[source]) for source in sources]
        ranks = torch.arange(index.shape[1], device=device)
        is_open = ranks < torch.tensor(num_open, device=device)[:, None]
        is_open &= log_probs > -torch.inf
        row_of = torch.arange(len(sources), device=device)[:, None]
        tokens = torch.cat([tokens[row_of, parents], ids[..., None]], -1)
        for row, beam in (is_open & (ids == EOS_ID)).nonzero().tolist():
            text = tuple(tokens[row, beam, 1:-1].tolist())
            values = float(log_probs[row, beam]), float(top_scores[row, beam])
            complete[sources[row]].append(DecodedSequence(text, *values))
        log_probs = log_probs.masked_fill(~is_open | (ids == EOS_ID), -torch.inf)

        unfinished = []
        for row, (source, best) in enumerate(zip(sources, log_probs.amax(1).tolist(), strict=True)):
            # Log-probabilities and penalties only fall, so this bounds the scores of open beams.
            bound = best / settings.length_divisor(max_lengths[source] + 1)
            complete[source].sort(key=lambda hypothesis: -hypothesis.score)
            has_best = len(complete[source]) >= settings.num_best
            if bound > (complete[source][settings.num_best - 1].score if has_best else -torch.inf):
                unfinished.append(row)
        rows = torch.tensor(unfinished, dtype=torch.int64, device=device)
        if len(unfinished) < len(sources):
            sources = [sources[row] for row in unfinished]
            memory, tokens, log_probs = memory.select(rows), tokens[rows], log_probs[rows]
        previous = rows[:, None] * attention.shape[1] + parents[rows]  # row of B * N, (b, N')
        state = tuple(part[previous.flatten()] for part in state)
        attention = attention.flatten(0, 1)[previous]
    return [hypotheses[: settings.num_best] for hypotheses in complete]


def _allowed(log_probs: Tensor, at_limit: Tensor) -> Tensor:
    """Return log-probabilities (b, N, V) with -inf for tokens that may not follow.

    ``at_limit``, bool (b,), is True where only <eos> may follow.
    """
    is_banned = torch.zeros(log_probs.shape[-1], dtype=torch.bool, device=log_probs.device)
    is_banned[BANNED_IDS] = True
    not_eos = torch.ones_like(is_banned)
    not_eos[EOS_ID] = False
    return log_probs.masked_fill((is_banned | at_limit[:, None] & not_eos)[:, None], -torch.inf)
