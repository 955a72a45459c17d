"""The many-to-many language model: embedding -> recurrent layers -> linear, at every timestep.

Axes: B batch, T time, E embedding, H units of the last layer, V vocabulary. Batches come as (B, T)
and are turned to (T, B) while they are still ids, since recurrent kernels work along time.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from korlm.config import RecurrentConfig
from korlm.models.base import LanguageModel, State
from korlm.models.composition import TokenEmbedding
from korlm.models.dropout import drop
from korlm.models.output import OutputLayer
from korlm.models.recurrent import RecurrentEncoder


class RecurrentLM(LanguageModel):
    """RNN, GRU or LSTM language model (Mikolov et al. 2010; Sundermeyer et al. 2012).

    Args:
        config: sizes, cell, dropouts.
        vocab_size: V.
        tokens: of all ids, if ``config.spelling`` needs them.
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
        self.output = OutputLayer(last_dim, vocab_size, tied)

    def begin(self, batch_size: int) -> State:
        """The states of all layers, each (batch_size, units)."""
        return self.encoder.begin(batch_size)

    def _hidden(
        self, inputs: Tensor, state: State | None, lengths: Tensor | None
    ) -> tuple[Tensor, State, Tensor | None]:
        """int64 (B, T) -> (T, B, H), the new state, and the output matrix if it is composed."""
        config, training = self.config, self.training
        matrix = self.embedding.output_matrix()
        x = self.embedding.read(inputs.t(), matrix)  # (T, B, E)
        x = drop(x, config.dropout_input, training, config.variational)
        x, state = self.encoder(x, state or self.begin(inputs.shape[0]), lengths)
        return drop(x, config.dropout_output, training, config.variational), state, matrix

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.log_probs``."""
        hidden, state, matrix = self._hidden(inputs, state, lengths)
        return self.output.log_probs(hidden.transpose(0, 1), matrix), state

    def nats(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.nats``; never holds the log-probabilities of a whole batch."""
        hidden, state, matrix = self._hidden(inputs, state, lengths)
        nats = self.output.nats(hidden.flatten(0, 1), targets.t().flatten(), matrix)
        return nats.view(hidden.shape[:2]).t(), state

    def loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.loss``."""
        hidden, state, matrix = self._hidden(inputs, state, lengths)
        return self.output.summed_nats(hidden.flatten(0, 1), targets.t().flatten(), matrix), state
