"""The feed-forward model of Bengio et al. 2003: a window of tokens -> tanh layer -> next token.

Equation 1 there: y = b + W x + U tanh(d + H x), where x is the embeddings of the last n tokens in
a row. Axes: B batch, T time, E embedding, H units of the tanh layer, V vocabulary, n window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from korlm.config import WindowConfig
from korlm.models.neural import NeuralLM
from korlm.modules.adaptive_softmax import build_output
from korlm.modules.dropout import sequence_dropout
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.onnx_nodes import EMBEDDING, IDS, NEXT, add_linear
from korlm.modules.state import State

if TYPE_CHECKING:
    from korlm.exporting.onnx_graph import Graph


class WindowLM(NeuralLM):
    """Predicts from the last ``config.window`` tokens and nothing else.

    The state is the last n - 1 ids, int64 (B, n - 1), oldest first. Before the beginning stands
    <pad>, which is never read elsewhere: its embedding is learned, and means "nothing yet".

    Untied, it is the equation as it stands: one output layer over [tanh(d + H x), x] with the
    matrix [U, W]. Tied, the output matrix is that of the embeddings, C: a linear layer P takes the
    tanh units to E, and direct connections are y = C D x, those of the log-bilinear model (Mnih and
    Hinton 2007), since an own W would be n times as large as C.

    Args:
        config: sizes, window, dropouts.
        vocab_size: V.
        tokens: of all ids, if ``config.subword_embedding`` needs them.
    """

    def __init__(
        self, config: WindowConfig, vocab_size: int, tokens: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.config = config
        self.embedding = TokenEmbedding(config, vocab_size, tokens)
        window_dim = config.window * config.embedding_dim
        direct_dim = window_dim if config.direct_connections else 0
        self.hidden_layer = nn.Linear(window_dim, config.hidden_dim)
        features = config.hidden_dim + direct_dim
        self.projection: nn.Linear | None = None
        if config.tie_weights:
            # [P, D]: what the tanh units and the window say, in terms of embeddings.
            self.projection = nn.Linear(features, config.embedding_dim, bias=False)
            weight = self.embedding.weight
            self.output = build_output(config, config.embedding_dim, vocab_size, weight)
        else:
            self.output = build_output(config, features, vocab_size, None)

    def initial_state(self, batch_size: int) -> State:
        """Nothing but <pad>: (batch_size, n - 1)."""
        device = self.embedding.weight.device
        return (torch.zeros(batch_size, self.config.window - 1, dtype=torch.int64, device=device),)

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """See ``LanguageModel.muon_weights``."""
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

    def _read(
        self, inputs: Tensor, state: State | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, State, Tensor | None]:
        """See ``NeuralLM._read``."""
        config, training = self.config, self.training
        rows, steps = inputs.shape
        (before,) = state or self.initial_state(rows)
        ids = torch.cat([before, inputs], 1)  # (B, n - 1 + T)
        x, matrix = self.embedding.read(ids)
        x = sequence_dropout(x, config.input_dropout, training, variational=False)
        x = torch.cat([x[:, at : at + steps] for at in range(config.window)], 2)  # (B, T, n * E)
        found = torch.tanh(self.hidden_layer(x))
        if config.direct_connections:
            found = torch.cat([found, x], 2)
        if self.projection is not None:
            found = self.projection(sequence_dropout(found, config.hidden_dropout, training, False))
        dropped = sequence_dropout(found, config.output_dropout, training, variational=False)
        return found, dropped, (self._last(ids, lengths),), matrix

    def _last(self, ids: Tensor, lengths: Tensor | None) -> Tensor:
        """The n - 1 ids before the end of each row."""
        size = self.config.window - 1
        if lengths is None:
            return ids[:, ids.shape[1] - size :]
        at = lengths.to(ids.device)[:, None] + torch.arange(size, device=ids.device)
        return ids.gather(1, at)
