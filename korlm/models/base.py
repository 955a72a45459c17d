"""The contract of all language models: a state is a value that is passed in and handed out.

Axes: B batch, T time, V vocabulary, E embedding, H hidden.

A state is a tuple of tensors whose first axis is B, whatever the model: an LSTM's (h, c) of each
layer, an n-gram's last tokens. So beam search, completion, surprisal and rescoring reorder states
by ``tensor[rows]`` and never ask which model it came from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]


class LanguageModel(nn.Module, ABC):
    """Predicts each token from the ones before it.

    Attributes:
        vocab_size: V.
    """

    vocab_size: int

    @abstractmethod
    def begin(self, batch_size: int) -> State:
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

    def nats(
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

    def loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """The sum of ``nats`` as a scalar that gradients flow back from, and the new state."""
        nats, state = self.nats(inputs, targets, state, lengths)
        return nats.sum(), state

    def objective(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """What training makes small: ``loss`` with penalties on top, ``loss`` itself, new state."""
        loss, state = self.loss(inputs, targets, state, lengths)
        return loss, loss, state

    def hidden_matrices(self) -> list[tuple[Tensor, int]]:
        """Weights (gates * M, N) between hidden units, each with its number of gates."""
        return []


def detach(state: State) -> State:
    """The same state, cut off from the steps that led to it (truncated back-propagation)."""
    return tuple(part.detach() for part in state)
