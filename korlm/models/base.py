"""Contract of all language models; ``korlm.config.groups.model`` has their settings.

The state is a value that is passed in and returned, never kept on the model: a tuple of tensors
whose first dimension is the batch, e.g. (h, c) of each LSTM layer or the last tokens of an n-gram
model. Callers (beam search, completion, surprisal, rescoring) reorder it by ``tensor[rows]`` and do
not depend on the kind of model.

Axes: B batch, T time, V vocabulary.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from korlm.dataset.vocab import PAD_ID
from korlm.modules.base import State, Trainable

ENTROPY_BLOCK = 1 << 20  # log-probabilities that ``token_nll_and_entropy`` computes at once


class TrainingLoss(NamedTuple):
    """Loss of a batch; ``total`` and ``nll`` are scalars.

    Attributes:
        total: the quantity to minimize: nll, with regularization or label smoothing.
        nll: the sum of -ln p over the targets of the batch.
        state: the state after the batch.
    """

    total: Tensor
    nll: Tensor
    state: State


class LanguageModel(Trainable, ABC):
    """Predicts each token from the tokens before it.

    In all methods ``inputs`` and ``targets`` are int64 (B, T), ``state`` is the state before the
    batch (None: the initial state), and ``lengths``, int64 (B,) on the CPU, is the number of valid
    tokens in each row (None: T). Outputs beyond a row's length are undefined, except that the loss
    of a <pad> target is 0.

    Attributes:
        vocab_size: V.
    """

    vocab_size: int

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """Return the initial state. Every tensor has batch_size as its first dimension."""

    @abstractmethod
    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Return the log-probabilities of every next token, and the new state.

        Returns:
            float32 (B, T, V), natural logs; [b, t] is the distribution after inputs[b, : t + 1].
            Special tokens have probabilities as well; ``generation/sampling.py`` bans them.
            The state after the last valid token of each row.
        """

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance by one token.

        Args:
            ids: int64 (B,).
            state: the state before them.

        Returns:
            Log-probabilities (B, V) of the next token, and the new state.
        """
        log_probs, state = self.log_probs(ids[:, None], state)
        return log_probs[:, 0], state

    def advance(self, inputs: Tensor, state: State | None = None) -> State:
        """Return the state after ``inputs``; subclasses skip the output layer."""
        return self.log_probs(inputs, state)[1]

    def inference_copy(self) -> LanguageModel:
        """Return a copy in evaluation mode; subclasses precompute derived weights.

        It does not follow later updates of the parameters.
        """
        return copy.deepcopy(self).requires_grad_(False).eval()

    def token_nll(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Return -ln p of every target, float32 (B, T), 0 for <pad>, and the new state."""
        log_probs, state = self.log_probs(inputs, state, lengths)
        target_log_probs = log_probs.gather(2, targets[..., None])[..., 0]
        return torch.where(targets == PAD_ID, 0.0, -target_log_probs), state

    def token_nll_and_entropy(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """Return ``token_nll``, the entropy of each target's distribution, and the new state.

        The entropies, float32 (B, T) in nats, are undefined where the target is <pad>. They are
        computed in blocks, so that memory does not grow with the batch.
        """
        nll, new_state = self.token_nll(inputs, targets, state, lengths)
        state = self.initial_state(len(inputs)) if state is None else state
        tokens_at_once = max(1, ENTROPY_BLOCK // self.vocab_size)
        entropy = torch.empty_like(nll)
        for begin in range(0, len(inputs), tokens_at_once):
            rows = slice(begin, begin + tokens_at_once)
            row_state = tuple(part[rows] for part in state)
            num_steps = max(1, tokens_at_once // len(inputs[rows]))
            for step in range(0, inputs.shape[1], num_steps):
                block = np.s_[rows, step : step + num_steps]
                log_probs, row_state = self.log_probs(inputs[block], row_state)
                entropy[block] = entropy_of(log_probs)
        return nll, entropy, new_state

    def training_loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> TrainingLoss:
        """Return the differentiable loss of a batch and the new state."""
        nll, state = self.token_nll(inputs, targets, state, lengths)
        total = nll.sum()
        return TrainingLoss(total, total, state)


def entropy_of(log_probs: Tensor) -> Tensor:
    """Return -sum p ln p in nats, (..., V) -> (...).

    >>> entropy_of(torch.tensor([0.5, 0.5, 0.0]).log())
    tensor(0.6931)
    """
    # -inf would make 0 ln 0 NaN instead of 0.
    finite = log_probs.clamp(min=torch.finfo(log_probs.dtype).min)
    entropy: Tensor = -torch.linalg.vecdot(log_probs.exp(), finite)
    return entropy
