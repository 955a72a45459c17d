"""A language model with a table of probabilities, so that losses can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from korlm.models.base import LanguageModel
from korlm.modules.base import State

V = 8


def ids_of(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint16)


class FixedModel(LanguageModel):
    """A table of the probabilities of each token after each; the state counts the tokens so far.

    Attributes:
        seen: the state at the start of each call.
        on_call: called with the number of the call, from 1, and the losses of the tokens, which it
            may replace.
    """

    def __init__(self, probs: Tensor | None = None) -> None:
        super().__init__()
        probs = torch.full((V, V), 1 / V) if probs is None else probs
        self.vocab_size = probs.shape[0]
        self.log_table = nn.Parameter(probs.log())
        self.seen: list[list[float]] = []
        self.on_call: Callable[[int, Tensor], Tensor] = lambda number, nll: nll

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, 1),)

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        (count,) = self.initial_state(inputs.shape[0]) if state is None else state
        assert not count.requires_grad, "the state is attached to the graph of earlier batches"
        self.seen.append(count[:, 0].tolist())
        log_probs = self.log_table[inputs].log_softmax(-1)
        # As in a real model, the state depends on the parameters.
        return log_probs, (count + inputs.shape[1] + 0 * self.log_table.sum(),)

    def token_nll(self, *arguments: Any, **named: Any) -> tuple[Tensor, State]:
        nll, state = super().token_nll(*arguments, **named)
        return self.on_call(len(self.seen), nll), state
