"""Batched beam search of a decoder, with the penalties of Wu et al. 2016.

Axes: B sources, N hypotheses (beams), V vocabulary, S source tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from korlm.modules.base import State
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
    complete: list[list[DecodedSequence]] = [[] for _ in max_lengths]
    beams = _Beams(memory, state, len(max_lengths))
    while beams.sources:
        scores = beams.step(decoder, max_lengths, settings)
        num_open = [settings.num_beams - len(complete[source]) for source in beams.sources]
        for source, hypothesis in beams.take_complete(scores, num_open):
            complete[source].append(hypothesis)
        unfinished = []
        best_open = beams.log_probs.amax(1).tolist()
        for row, (source, best) in enumerate(zip(beams.sources, best_open, strict=True)):
            complete[source].sort(key=lambda hypothesis: -hypothesis.score)
            # Log-probabilities and penalties only fall, so this bounds the scores of open beams.
            bound = best / settings.length_divisor(max_lengths[source] + 1)
            has_best = len(complete[source]) >= settings.num_best
            if bound > (complete[source][settings.num_best - 1].score if has_best else -torch.inf):
                unfinished.append(row)
        beams.keep(unfinished)
    return [hypotheses[: settings.num_best] for hypotheses in complete]


class _Beams:
    """Beams of the sources that are still searched, N of each of b sources.

    Attributes:
        sources: indices of the b sources.
        tokens: int64 (b, N, length), <bos> first.
        log_probs: (b, N), -inf for beams that are complete.
        attention: (b, N, S), summed over the steps.
        memory: of the b sources.
        state: of the decoder, each part has b * N rows.
    """

    def __init__(self, memory: Memory, state: State, num_sources: int) -> None:
        device = memory.values.device
        self.sources = list(range(num_sources))
        self.tokens = torch.full((num_sources, 1, 1), BOS_ID, device=device)
        self.log_probs = torch.zeros(num_sources, 1, device=device)
        self.attention = torch.zeros(num_sources, 1, memory.values.shape[1], device=device)
        if memory.mask is not None:
            self.attention = self.attention.masked_fill(~memory.mask[:, None], 1.0)
        self.memory, self.state = memory, state

    def step(
        self, decoder: AttentionDecoder, max_lengths: Sequence[int], settings: BeamSettings
    ) -> Tensor:
        """Replace the beams by the best continuations of all beams of a source.

        Returns:
            Their scores, (b, N), in descending order.
        """
        length = self.tokens.shape[2]  # of the continuations, without <bos>
        step_log_probs, weights, state = decoder.step(self.tokens[..., -1], self.memory, self.state)
        at_limit = torch.tensor([length > max_lengths[source] for source in self.sources])
        allowed = _allowed(step_log_probs, at_limit.to(self.tokens.device))
        totals = self.log_probs[..., None] + allowed  # (b, N, V)
        attention = self.attention + weights
        scores = totals / settings.length_divisor(length) + settings.coverage(attention)[..., None]

        scores, index = scores.flatten(1).topk(min(settings.num_beams, scores[0].numel()))
        self.log_probs = totals.flatten(1).gather(1, index)
        parents, ids = index // totals.shape[2], index % totals.shape[2]  # (b, new N)
        rows = torch.arange(len(self.sources), device=index.device)[:, None]
        self.tokens = torch.cat([self.tokens[rows, parents], ids[..., None]], -1)
        self.attention = attention[rows, parents]
        parent_rows = (rows * totals.shape[1] + parents).flatten()
        self.state = tuple(part[parent_rows] for part in state)
        return scores

    def take_complete(
        self, scores: Tensor, num_open: Sequence[int]
    ) -> list[tuple[int, DecodedSequence]]:
        """Close the beams that end in <eos>, and those beyond the number of open beams.

        Args:
            scores: (b, N).
            num_open: (b,), the most beams of each source that are not complete before this.

        Returns:
            The source and the hypothesis of each beam that ends in <eos>.
        """
        ranks = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        is_open = ranks < torch.tensor(num_open, device=self.tokens.device)[:, None]
        is_open &= self.log_probs > -torch.inf
        is_complete = is_open & (self.tokens[..., -1] == EOS_ID)
        taken = []
        for row, beam in is_complete.nonzero().tolist():
            ids = tuple(self.tokens[row, beam, 1:-1].tolist())
            values = float(self.log_probs[row, beam]), float(scores[row, beam])
            taken.append((self.sources[row], DecodedSequence(ids, *values)))
        self.log_probs = self.log_probs.masked_fill(~is_open | is_complete, -torch.inf)
        return taken

    def keep(self, rows: list[int]) -> None:
        """Keep some of the sources, given by their rows."""
        if len(rows) == len(self.sources):
            return
        index = torch.tensor(rows, dtype=torch.int64, device=self.tokens.device)
        self.sources = [self.sources[row] for row in rows]
        self.memory, self.tokens = self.memory.select(index), self.tokens[index]
        self.log_probs, self.attention = self.log_probs[index], self.attention[index]
        beams = torch.arange(self.tokens.shape[1], device=index.device)
        state_rows = (index[:, None] * len(beams) + beams).flatten()
        self.state = tuple(part[state_rows] for part in self.state)


def _allowed(log_probs: Tensor, at_limit: Tensor) -> Tensor:
    """Return log-probabilities (b, N, V) with -inf for tokens that may not follow.

    ``at_limit``, bool (b,), is True where only <eos> may follow.
    """
    is_banned = torch.zeros(log_probs.shape[-1], dtype=torch.bool, device=log_probs.device)
    is_banned[BANNED_IDS] = True
    not_eos = torch.ones_like(is_banned)
    not_eos[EOS_ID] = False
    return log_probs.masked_fill((is_banned | at_limit[:, None] & not_eos)[:, None], -torch.inf)
