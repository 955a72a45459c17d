"""Recurrent language model: embedding -> RNN, GRU or LSTM layers -> softmax at every timestep.

Axes: B batch, T time, H units of the last layer, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import RecurrentConfig
from korlm.models.neural import NeuralLM
from korlm.modules.adaptive_softmax import build_output
from korlm.modules.base import State
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.encoder import EncoderOutput, RecurrentEncoder
from korlm.modules.onnx_nodes import EMBEDDING, IDS, add_recurrent_layers, recurrent_state_names

if TYPE_CHECKING:
    from korlm.exporting.onnx_graph import Graph


class WeightedSquaredNorm(torch.autograd.Function):
    """Squares, averaged over units and summed over tokens with weights.

    ``apply(x (B, T, H), weights (B, T))`` returns a scalar. It takes one pass over x in each
    direction where plain operators take five.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor) -> Tensor:
        """Return sum over b, t of weights[b, t] * mean of x[b, t]^2."""
        x = x.float()
        ctx.save_for_backward(x, weights)
        norms: Tensor = torch.linalg.vector_norm(x, dim=-1)
        return (norms.square() * weights).sum() / x.shape[-1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x."""
        x, weights = ctx.saved_tensors
        return x * (weights * (2 * grads[0] / x.shape[-1]))[..., None], None


class TemporalDifference(torch.autograd.Function):
    """Difference of neighboring timesteps, (B, T, H) -> (B, T - 1, H), in one pass each way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return x[:, t + 1] - x[:, t]."""
        return x[:, 1:] - x[:, :-1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Return the gradient of x, (B, T, H)."""
        padded = F.pad(grads[0], (0, 0, 1, 1))
        return padded[:, :-1] - padded[:, 1:]


class RecurrentLM(NeuralLM):
    """RNN, GRU or LSTM language model (Mikolov et al. 2010; Sundermeyer et al. 2012).

    The encoder is never bidirectional: it would have read the token that it predicts.
    """

    def __init__(
        self, config: RecurrentConfig, vocab_size: int, tokens: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.config = config
        self.embedding = TokenEmbedding(config, vocab_size, tokens)
        last_dim = config.embedding_dim if config.tie_weights else config.hidden_dim
        self.encoder = RecurrentEncoder(self.embedding, config, last_dim)
        tied_weight = self.embedding.weight if config.tie_weights else None
        self.output = build_output(config, last_dim, vocab_size, tied_weight)
        self.register_state_dict_post_hook(_drop_encoder_embedding)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_add_encoder_embedding)  # type: ignore[no-untyped-call]

    def initial_state(self, batch_size: int) -> State:
        """See ``LanguageModel.initial_state``."""
        return self.encoder.initial_state(batch_size)

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """See ``Trainable.muon_weights``."""
        return self.encoder.muon_weights()

    def state_names(self) -> list[str]:
        """See ``NeuralLM.state_names``: h0 c0 h1 c1 of an LSTM."""
        return recurrent_state_names(self.encoder.layers)

    def export_step(self, graph: Graph) -> str:
        """See ``NeuralLM.export_step``."""
        return add_recurrent_layers(graph, graph.look_up(EMBEDDING, IDS), self.encoder.layers)

    def encode(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> EncoderOutput:
        """See ``NeuralLM.encode``."""
        encoded: EncoderOutput = self.encoder(inputs, state, lengths)
        return encoded

    def _activation_regularization(
        self, encoded: EncoderOutput, target_mask: Tensor
    ) -> Tensor | float:
        """Return AR + TAR (Merity et al. 2018, section 4.4) of the last layer.

        AR is the squared output after dropout, TAR the squared difference of outputs of neighboring
        timesteps before dropout; both are means over units and sums over tokens.
        """
        config = self.config
        total: Tensor | float = 0.0
        if config.activation_regularization > 0:
            squares = WeightedSquaredNorm.apply(encoded.output, target_mask)  # type: ignore[no-untyped-call]
            total = total + config.activation_regularization * squares
        if config.temporal_activation_regularization > 0:
            change = TemporalDifference.apply(encoded.raw_output)  # type: ignore[no-untyped-call]
            squares = WeightedSquaredNorm.apply(change, target_mask[:, 1:])  # type: ignore[no-untyped-call]
            total = total + config.temporal_activation_regularization * squares
        return total


# The embedding is a module of the model and of its encoder. Checkpoints hold it once, as
# ``embedding.*``.


def _drop_encoder_embedding(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any
) -> None:
    for key in [key for key in state_dict if key.startswith(f"{prefix}encoder.embedding.")]:
        del state_dict[key]


def _add_encoder_embedding(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any
) -> None:
    old = f"{prefix}embedding."
    copies = {key.removeprefix(old): v for key, v in state_dict.items() if key.startswith(old)}
    state_dict.update({f"{prefix}encoder.embedding.{key}": v for key, v in copies.items()})
