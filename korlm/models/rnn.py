"""The many-to-many language model: embedding -> recurrent layers -> linear, at every timestep.

Axes: B batch, T time, E embedding, H units of the last layer, V vocabulary. Batches come as (B, T)
and are turned to (T, B) while they are still ids, since recurrent kernels work along time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from korlm.config import RecurrentConfig
from korlm.models.neural import NeuralLM
from korlm.modules.adaptive_softmax import build_output
from korlm.modules.dropout import sequence_dropout
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.onnx_nodes import (
    EMBEDDING,
    IDS,
    add_recurrent_layers,
    recurrent_state_names,
)
from korlm.modules.rnn import RecurrentEncoder, RecurrentLayer
from korlm.modules.state import State

if TYPE_CHECKING:
    from korlm.exporting.onnx_graph import Graph


class _WeightedSquaredNorm(torch.autograd.Function):
    """Squares as a mean over units and a weighted sum over tokens: (B, T, H), (B, T) -> scalar.

    In one pass each way, where plain operators take five.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor) -> Tensor:
        x = x.float()
        ctx.save_for_backward(x, weights)
        norms: Tensor = torch.linalg.vector_norm(x, dim=-1)
        return (norms.square() * weights).sum() / x.shape[-1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, weights = ctx.saved_tensors
        return x * (weights * (2 * grads[0] / x.shape[-1]))[..., None], None


class _TemporalDifference(torch.autograd.Function):
    """What changes from one timestep to the next: (B, T, H) -> (B, T - 1, H)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x[:, 1:] - x[:, :-1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        padded = F.pad(grads[0], (0, 0, 1, 1))
        return padded[:, :-1] - padded[:, 1:]


class RecurrentLM(NeuralLM):
    """RNN, GRU or LSTM language model (Mikolov et al. 2010; Sundermeyer et al. 2012).

    Args:
        config: sizes, cell, dropouts.
        vocab_size: V.
        tokens: of all ids, if ``config.subword_embedding`` needs them.
    """

    def __init__(
        self, config: RecurrentConfig, vocab_size: int, tokens: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.config = config
        self.embedding = TokenEmbedding(config, vocab_size, tokens)
        last_dim = config.embedding_dim if config.tie_weights else config.hidden_dim
        self.encoder = RecurrentEncoder(config.embedding_dim, last_dim, config)
        tied = self.embedding.weight if config.tie_weights else None
        self.output = build_output(config, last_dim, vocab_size, tied)

    def initial_state(self, batch_size: int) -> State:
        """The states of all layers, each (batch_size, units)."""
        return self.encoder.initial_state(batch_size)

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """See ``LanguageModel.muon_weights``."""
        return self.encoder.muon_weights()

    def state_names(self) -> list[str]:
        """See ``NeuralLM.state_names``: h0 c0 h1 c1 of an LSTM."""
        return recurrent_state_names(self._layers())

    def export_step(self, graph: Graph) -> str:
        """See ``NeuralLM.export_step``."""
        return add_recurrent_layers(graph, graph.look_up(EMBEDDING, IDS), self._layers())

    def _layers(self) -> list[RecurrentLayer]:
        return [layer for layer in self.encoder.layers if isinstance(layer, RecurrentLayer)]

    def _read(
        self, inputs: Tensor, state: State | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, State, Tensor | None]:
        """See ``NeuralLM._read``."""
        config, training = self.config, self.training
        x, matrix = self.embedding.read(inputs.t())  # (T, B, E)
        x = sequence_dropout(x, config.input_dropout, training, config.variational_dropout)
        x, state = self.encoder(x, state or self.initial_state(inputs.shape[0]), lengths)
        dropped = sequence_dropout(x, config.output_dropout, training, config.variational_dropout)
        return x.transpose(0, 1), dropped.transpose(0, 1), state, matrix

    def _activation_regularization(
        self, plain: Tensor, hidden: Tensor, real: Tensor
    ) -> Tensor | float:
        """Those of Merity et al. 2018, section 4.4, on what the last layer gives.

        Its squares after dropout, and the squares of its change from one timestep to the next,
        each a mean over units and a sum over tokens.
        """
        config = self.config
        total: Tensor | float = 0.0
        if config.activation_regularization > 0:
            squares = _WeightedSquaredNorm.apply(hidden, real)  # type: ignore[no-untyped-call]
            total = total + config.activation_regularization * squares
        if config.temporal_activation_regularization > 0:
            change = _TemporalDifference.apply(plain)  # type: ignore[no-untyped-call]
            squares = _WeightedSquaredNorm.apply(change, real[:, 1:])  # type: ignore[no-untyped-call]
            total = total + config.temporal_activation_regularization * squares
        return total
