"""Beam search: the likeliest texts instead of drawn ones.

Hypotheses of different lengths are compared with the length normalisation of Wu et al. 2016,
equation 14: log p / ((5 + length) / 6) ** alpha. Axes: N hypotheses, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from korlm.dataset.vocab import EOS_ID
from korlm.generation.sampling import UNWRITABLE, mask_banned, next_step
from korlm.models.base import LanguageModel
from korlm.modules.state import State


@dataclass(frozen=True)
class Hypothesis:
    """A text found by beam search.

    Attributes:
        ids: its tokens, <eos> included where it has come to one.
        log_prob: natural log of its probability.
        score: ``log_prob`` normalised by length; the higher the better.
        origin: the row of the start that it goes on from.
    """

    ids: tuple[int, ...]
    log_prob: float
    score: float
    origin: int = 0


@dataclass(frozen=True)
class Start:
    """Where a search sets out.

    Attributes:
        scores: natural logs of the probabilities of the first token, (N, V); -inf: never.
        state: after what was read before, each tensor (N, ...).
        log_probs: of what the rows stand for themselves, (N,).
    """

    scores: Tensor
    state: State
    log_probs: Tensor


@torch.inference_mode()
def beam_search(
    model: LanguageModel,
    start: Start,
    beams: int,
    max_tokens: int,
    length_penalty: float = 0.6,
    sentences: int = 1,
    start_id: int = EOS_ID,
    banned: Collection[int] = UNWRITABLE,
) -> list[Hypothesis]:
    """The best texts, at most ``beams`` of them, the best first.

    Args:
        model: in evaluation mode.
        start: what goes before.
        beams: hypotheses that are kept at each length.
        max_tokens: a text ends there at the latest, finished or not.
        length_penalty: alpha, 0 or more; 0 compares plain log-probabilities.
        sentences: a text ends with its so many-th <eos>.
        start_id: what the model reads before a sentence: <eos> or <bos>.
        banned: tokens that are never written.
    """

    def score(log_prob: float, length: int) -> float:
        return log_prob / float(((5 + length) / 6) ** length_penalty)

    live: list[tuple[int, ...]] = [()] * len(start.scores)
    origins, done = list(range(len(live))), list[Hypothesis]()
    scores, state, total = start.scores, start.state, start.log_probs.double().cpu()
    for length in range(1, max_tokens + 1):
        sums = total[:, None] + scores.double().cpu()
        kept: list[tuple[int, tuple[int, ...], float]] = []
        for row, token, log_prob in _best(sums, 2 * beams):
            ids = (*live[row], token)
            ends = token == EOS_ID and ids.count(EOS_ID) == sentences
            if ends or length == max_tokens:
                done.append(Hypothesis(ids, log_prob, score(log_prob, length), origins[row]))
            elif len(kept) < beams:
                kept.append((row, ids, log_prob))
        done = sorted(done, key=lambda found: -found.score)[:beams]
        # Log-probabilities only fall, so that the best one can come to is its own at full length.
        if not kept or (len(done) == beams and done[-1].score >= score(kept[0][2], max_tokens)):
            break
        rows = [row for row, _, _ in kept]
        origins, live = [origins[row] for row in rows], [ids for _, ids, _ in kept]
        total = torch.tensor([log_prob for _, _, log_prob in kept], dtype=torch.float64)
        last = torch.tensor([ids[-1] for ids in live], device=scores.device)
        picked = torch.tensor(rows, device=scores.device)
        log_probs, state = next_step(model, last, tuple(part[picked] for part in state), start_id)
        begins = [ids[-1] == EOS_ID for ids in live]
        scores = torch.stack(
            [mask_banned(row, banned, new) for row, new in zip(log_probs, begins, strict=True)]
        )
    return done


def _best(sums: Tensor, count: int) -> Iterator[tuple[int, int, float]]:
    """The largest finite entries of (N, V), falling: row, token, value."""
    values, places = sums.flatten().topk(min(count, sums.numel()))
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        if value > -torch.inf:
            yield *divmod(place, sums.shape[1]), value
