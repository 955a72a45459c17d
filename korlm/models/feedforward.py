"""Feed-forward language model of Bengio et al. 2003: a window of tokens -> tanh layer -> softmax.

Equation 1 of the paper: y = b + W x + U tanh(d + H x), where x is the concatenation of the
embeddings of the last n tokens.

Axes: B batch, T time, E embedding, H units of the tanh layer, V vocabulary, n window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from korlm.config import WindowConfig
from korlm.models.neural import NeuralLM
from korlm.modules.adaptive_softmax import build_output
from korlm.modules.base import State
from korlm.modules.dropout import sequence_dropout
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.encoder import EncoderOutput
from korlm.modules.onnx_nodes import EMBEDDING, IDS, NEXT, add_linear
from korlm.modules.padding import last_steps

if TYPE_CHECKING:
    from korlm.exporting.onnx_graph import Graph


class WindowLM(NeuralLM):
    """Predicts from the last ``config.window`` tokens only.

    The state is the last n - 1 ids, int64 (B, n - 1), oldest first. Initially they are <pad>, whose
    embedding is learned and means "before the text".

    Untied, the softmax head has the matrix [U, W] over [tanh(d + H x), x]. Tied, its matrix is that
    of the embeddings, C, and a linear layer [P, D] projects the same vector to E. The direct
    connections are then y = C D x, as in the log-bilinear model (Mnih and Hinton 2007); a separate
    W would have n times the size of C.
    """

    def __init__(
        self, config: WindowConfig, vocab_size: int, tokens: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.config = config
        self.embedding = TokenEmbedding(config, vocab_size, tokens)
        window_dim = config.window * config.embedding_dim
        self.hidden_layer = nn.Linear(window_dim, config.hidden_dim)
        features = config.hidden_dim + (window_dim if config.direct_connections else 0)
        self.projection: nn.Linear | None = None
        if config.tie_weights:
            self.projection = nn.Linear(features, config.embedding_dim, bias=False)  # [P, D]
            weight = self.embedding.weight
            self.output = build_output(config, config.embedding_dim, vocab_size, weight)
        else:
            self.output = build_output(config, features, vocab_size, None)
        self.register_load_state_dict_pre_hook(_rename_old_keys)  # type: ignore[no-untyped-call]

    def initial_state(self, batch_size: int) -> State:
        """See ``LanguageModel.initial_state``."""
        device = self.embedding.weight.device
        return (torch.zeros(batch_size, self.config.window - 1, dtype=torch.int64, device=device),)

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """See ``Trainable.muon_weights``."""
        return [(self.hidden_layer.weight, 1)]

    def state_names(self) -> list[str]:
        """See ``NeuralLM.state_names``."""
        return ["last_ids"]

    def export_step(self, graph: Graph) -> str:
        """See ``NeuralLM.export_step``."""
        newest = graph.add("Unsqueeze", IDS, graph.integers([1]))
        ids = graph.add("Concat", "last_ids", newest, axis=1)  # (B, n)
        end, one = graph.integers([self.config.window]), graph.integers([1])
        graph.add("Slice", ids, one, end, one, name=NEXT + "last_ids")
        # (B, n * E)
        x = graph.add("Reshape", graph.look_up(EMBEDDING, ids), graph.integers([0, -1]))
        hidden = graph.add("Tanh", add_linear(graph, x, "tanh_layer", self.hidden_layer))
        if self.config.direct_connections:
            hidden = graph.add("Concat", hidden, x, axis=-1)
        if self.projection is not None:
            hidden = add_linear(graph, hidden, "onto_embedding", self.projection)
        return hidden

    def encode(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> EncoderOutput:
        """See ``NeuralLM.encode``."""
        config = self.config
        batch_size, steps = inputs.shape
        (last_ids,) = state or self.initial_state(batch_size)
        ids = torch.cat([last_ids, inputs], 1)  # (B, n - 1 + T)
        x, output_weight = self.embedding.embed(ids)
        x = self._dropout(x, config.input_dropout)
        # (B, T, n * E)
        x = torch.cat([x[:, begin : begin + steps] for begin in range(config.window)], 2)
        hidden = torch.tanh(self.hidden_layer(x))
        if config.direct_connections:
            hidden = torch.cat([hidden, x], 2)
        if self.projection is not None:
            hidden = self.projection(self._dropout(hidden, config.hidden_dropout))
        dropped = self._dropout(hidden, config.output_dropout)
        state = (last_steps(ids, config.window - 1, lengths),)
        return EncoderOutput(hidden, dropped, state, output_weight)

    def _dropout(self, x: Tensor, p: float) -> Tensor:
        return sequence_dropout(x, p, self.training, variational=False, time_dim=1)


def _rename_old_keys(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any
) -> None:
    """Accept checkpoints in which the layers have the names of korlm before November 2026."""
    for old, new in (("tanh_layer.", "hidden_layer."), ("onto_embedding.", "projection.")):
        for key in [key for key in state_dict if key.startswith(prefix + old)]:
            state_dict[prefix + new + key.removeprefix(prefix + old)] = state_dict.pop(key)
