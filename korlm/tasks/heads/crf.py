"""Linear-chain conditional random field (Lafferty, McCallum and Pereira 2001).

The score of a label sequence y of a row is

    start[y_0] + sum_t emissions[t, y_t] + sum_t transitions[y_t, y_t+1] + end[y_last]

Axes: B batch, T time, L labels. All methods compute in fp32. Positions beyond the length of a row
never change a result.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from korlm.modules.padding import last_valid, valid_mask

_FORBIDDEN = -1e4  # score of a forbidden transition; finite, because inf - inf has no gradient


class AllowedTransitions(NamedTuple):
    """Transitions that a label sequence may have.

    Attributes:
        start: bool (L,), labels of the first position.
        transitions: bool (L, L), from the label of the row to the label of the column.
        end: bool (L,), labels of the last position.
    """

    start: Tensor
    transitions: Tensor
    end: Tensor


class LinearChainCRF(nn.Module):
    """Loss, marginals and best label sequences of a linear-chain CRF.

    In all methods, ``emissions`` are (B, T, L), ``labels`` int64 (B, T) with any label at padding,
    and ``lengths`` int64 (B,), from 1 to T. Scores and log-probabilities are fp32 (B,).

    Args:
        num_labels: L.
        allowed: transitions with a nonzero probability; None: all.
    """

    def __init__(self, num_labels: int, allowed: AllowedTransitions | None = None) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.empty(num_labels))
        self.transitions = nn.Parameter(torch.empty(num_labels, num_labels))
        self.end = nn.Parameter(torch.empty(num_labels))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)
        for name, parameter in list(self.named_parameters()):
            mask = torch.ones_like(parameter) if allowed is None else getattr(allowed, name)
            penalty = torch.where(mask.bool(), 0.0, _FORBIDDEN)
            self.register_buffer(f"{name}_penalty", penalty, persistent=False)

    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return start (L,), transitions (L, L) and end (L,) with the penalties."""
        names = ("start", "transitions", "end")
        start, transitions, end = (
            (getattr(self, name) + getattr(self, f"{name}_penalty")).float() for name in names
        )
        return start, transitions, end

    def log_partition(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Compute the log-sum of the exponentiated scores of all label sequences (forward pass)."""
        start, transitions, end = self.scores()
        steps = emissions.float().unbind(1)
        alpha = start + steps[0]
        alphas = [alpha]
        for step in steps[1:]:
            alpha = torch.logsumexp(alpha[:, :, None] + transitions, 1) + step
            alphas.append(alpha)
        last = last_valid(torch.stack(alphas, 1), lengths)  # (B, L); padding comes after it
        return torch.logsumexp(last + end, 1)

    def score(self, emissions: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Compute the scores of label sequences."""
        start, transitions, end = self.scores()
        valid = valid_mask(emissions, lengths)
        steps = emissions.float().gather(2, labels[..., None])[..., 0]
        moves = transitions[labels[:, :-1], labels[:, 1:]]
        total = torch.where(valid, steps, 0.0).sum(1)
        total = total + torch.where(valid[:, 1:], moves, 0.0).sum(1)
        return total + start[labels[:, 0]] + end[last_valid(labels, lengths)]

    def nll(self, emissions: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Compute the negative log-likelihood of label sequences in nats."""
        return self.log_partition(emissions, lengths) - self.score(emissions, labels, lengths)

    def marginals(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Compute the probability of each label at each position, fp32 (B, T, L); 0 at padding.

        They are the gradient of the log-partition with respect to the emissions: its backward pass
        is the backward recursion (Eisner 2016).
        """
        with torch.inference_mode(False), torch.enable_grad():
            emissions = emissions.detach().float().clone().requires_grad_()
            total = self.log_partition(emissions, lengths.clone()).sum()
            (gradient,) = torch.autograd.grad(total, emissions)
        return gradient

    def log_prob(self, emissions: Tensor, lengths: Tensor, allowed: Tensor) -> Tensor:
        """Compute the log-probability that all labels are allowed ones (Culotta and McCallum 2004).

        ``allowed``, bool (B, T, L), are the labels that each position may have.
        """
        some = emissions.masked_fill(~allowed, _FORBIDDEN)
        return self.log_partition(some, lengths) - self.log_partition(emissions, lengths)

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Find the best label sequence of each row (Viterbi 1967), int64 (B, T); 0 at padding.

        Of equal scores, the lower label is chosen.
        """
        start, transitions, end = self.scores()
        steps = emissions.float().unbind(1)
        score = start + steps[0]
        scores, origins = [score], []
        for step in steps[1:]:
            best, origin = (score[:, :, None] + transitions).max(1)
            score = best + step
            scores.append(score)
            origins.append(origin)
        last_scores = last_valid(torch.stack(scores, 1), lengths) + end
        label = last_scores.argmax(1)
        ends = lengths.to(emissions.device) - 1
        labels = [label]
        for t in range(len(origins) - 1, -1, -1):
            previous = origins[t].gather(1, label[:, None])[:, 0]
            label = torch.where(t < ends, previous, label)  # at and after the end: the last label
            labels.append(label)
        return torch.where(valid_mask(emissions, lengths), torch.stack(labels[::-1], 1), 0)
