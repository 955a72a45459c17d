"""The contract of all language models: a state is a value that is passed in and handed out.

Axes: B batch, T time, V vocabulary, E embedding, H hidden.

A state is a tuple of tensors whose first axis is B, whatever the model: an LSTM's (h, c) of each
layer, an n-gram's last tokens. So beam search, completion, surprisal and rescoring reorder states
by ``tensor[rows]`` and never ask which model it came from.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from korlm.modules.state import State

BLOCK = 1 << 20  # log-probabilities held at once where only their entropy is wanted


class TrainingLoss(NamedTuple):
    """The loss of a batch; both sums are scalars.

    Attributes:
        total: nll + regularization, the quantity to minimize.
        nll: the sum of ``LanguageModel.token_nll`` over the batch.
        state: the state after the batch.
    """

    total: Tensor
    nll: Tensor
    state: State


class LanguageModel(nn.Module, ABC):
    """Predicts each token from the ones before it.

    Attributes:
        vocab_size: V.
    """

    vocab_size: int

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """The state before anything was read; each tensor (batch_size, ...)."""

    @abstractmethod
    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Natural logs of the probabilities of every next token.

        Args:
            inputs: int64 (B, T).
            state: what was read before; None: nothing.
            lengths: int64 (B,) on the CPU; where a row ends. Results behind its end are of no use.

        Returns:
            float32 (B, T, V), where [b, t] tells what follows inputs[b, :t + 1]; the state after
            each row's last token.
        """

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """One token further: ids int64 (B,) -> log-probabilities (B, V) of the next, new state."""
        log_probs, state = self.log_probs(ids[:, None], state)
        return log_probs[:, 0], state

    def advance(self, inputs: Tensor, state: State | None = None) -> State:
        """The state after int64 (B, T), where nothing is to be predicted on the way."""
        return self.log_probs(inputs, state)[1]

    def inference_copy(self) -> LanguageModel:
        """A copy for use alone: what is made of the parameters in every call is made here, once.

        It follows neither training nor loading that come later.
        """
        return copy.deepcopy(self).requires_grad_(False).eval()

    def token_nll(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """-ln p of every target: float32 (B, T), 0 where it is <pad>; and the new state."""
        log_probs, state = self.log_probs(inputs, state, lengths)
        found = log_probs.gather(2, targets[..., None])[..., 0]
        return torch.where(targets == 0, 0.0, -found), state

    def token_nll_and_entropy(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """What each target costs, how open the choice was, and the new state.

        Memory does not hold the log-probabilities of a whole batch.

        Returns:
            ``token_nll``; the entropy in nats of the distribution that predicts each target,
            float32 (B, T), undefined where the target is <pad>; the state.
        """
        nats, after = self.token_nll(inputs, targets, state, lengths)
        state = self.initial_state(len(inputs)) if state is None else state
        rows_at_once = max(1, BLOCK // self.vocab_size)
        entropy = torch.empty_like(nats)
        for begin in range(0, len(inputs), rows_at_once):
            rows = slice(begin, begin + rows_at_once)
            part_state = tuple(part[rows] for part in state)
            steps = max(1, rows_at_once // len(inputs[rows]))
            for step in range(0, inputs.shape[1], steps):
                part = np.s_[rows, step : step + steps]
                log_probs, part_state = self.log_probs(inputs[part], part_state)
                entropy[part] = entropy_of(log_probs)
        return nats, entropy, after

    def training_loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> TrainingLoss:
        """Return the loss of a batch, with gradients, and the new state."""
        nll, state = self.token_nll(inputs, targets, state, lengths)
        total = nll.sum()
        return TrainingLoss(total, total, state)

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """Weights (gates * M, N) between hidden units, each with its number of gates."""
        return []


def entropy_of(log_probs: Tensor) -> Tensor:
    """-sum p ln p in nats: (..., V) -> (...).

    >>> entropy_of(torch.tensor([0.5, 0.5, 0.0]).log())
    tensor(0.6931)
    """
    # What never comes adds nothing: 0 ln 0 is 0.
    finite = log_probs.clamp(min=torch.finfo(log_probs.dtype).min)
    entropy: Tensor = -torch.linalg.vecdot(log_probs.exp(), finite)
    return entropy
