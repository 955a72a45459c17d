"""The many-to-many language model: embedding -> recurrent layers -> linear, at every timestep.

Axes: B batch, T time, E embedding, H units of the last layer, V vocabulary. Batches come as (B, T)
and are turned to (T, B) while they are still ids, since recurrent kernels work along time.
"""

from __future__ import annotations

from torch import Tensor, nn

from korlm.config import RecurrentConfig
from korlm.models.base import NeuralLM, State
from korlm.models.dropout import drop, drop_tokens
from korlm.models.output import PAD_ID, build_output
from korlm.models.recurrent import RecurrentEncoder


class RecurrentLM(NeuralLM):
    """RNN, GRU or LSTM language model (Mikolov et al. 2010; Sundermeyer et al. 2012).

    Args:
        config: sizes, cell, dropouts.
        vocab_size: V.
    """

    def __init__(self, config: RecurrentConfig, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.config = config
        self.embedding = nn.Embedding(vocab_size, config.embedding_dim)
        # As output matrix a large spread would begin with sure and wrong predictions.
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        last_dim = config.embedding_dim if config.tie_weights else config.hidden_dim
        self.encoder = RecurrentEncoder(config.embedding_dim, last_dim, config)
        tied = self.embedding.weight if config.tie_weights else None
        self.output = build_output(config, last_dim, vocab_size, tied)

    def begin(self, batch_size: int) -> State:
        """The states of all layers, each (batch_size, units)."""
        return self.encoder.begin(batch_size)

    def _hidden(
        self, inputs: Tensor, state: State | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, State]:
        """int64 (B, T) -> (T, B, H) without and with output dropout, and the new state."""
        config, training = self.config, self.training
        ids = inputs.t()
        x = self.embedding(ids)  # (T, B, E)
        x = drop_tokens(x, ids, self.vocab_size, config.dropout_embedding, training)
        x = drop(x, config.dropout_input, training, config.variational)
        x, state = self.encoder(x, state or self.begin(inputs.shape[0]), lengths)
        return x, drop(x, config.dropout_output, training, config.variational), state

    def hidden(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """See ``NeuralLM.hidden``."""
        _, hidden, state = self._hidden(inputs, state, lengths)
        return hidden.transpose(0, 1), state

    def nats_of(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """See ``NeuralLM.nats_of``."""
        return self.output.nats(hidden.flatten(0, 1), targets.flatten()).view(targets.shape)

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.log_probs``."""
        _, hidden, state = self._hidden(inputs, state, lengths)
        return self.output.log_probs(hidden.transpose(0, 1)), state

    def nats(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.nats``; never holds the log-probabilities of a whole batch."""
        _, hidden, state = self._hidden(inputs, state, lengths)
        nats = self.output.nats(hidden.flatten(0, 1), targets.t().flatten())
        return nats.view(hidden.shape[:2]).t(), state

    def loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.loss``."""
        _, loss, state = self.objective(inputs, targets, state, lengths)
        return loss, state

    def objective(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """See ``LanguageModel.objective``.

        The penalties are those of Merity et al. 2018, section 4.4, on what the last layer gives:
        its squares after dropout, and the squares of its change from one timestep to the next, each
        a mean over units and a sum over tokens.
        """
        hidden, dropped, state = self._hidden(inputs, state, lengths)
        loss = self.output.summed_nats(dropped.flatten(0, 1), targets.t().flatten())
        total, real = loss, (targets.t() != PAD_ID)
        if self.config.activation_penalty > 0:
            squares = dropped.float().pow(2).mean(-1)
            total = total + self.config.activation_penalty * squares[real].sum()
        if self.config.change_penalty > 0:
            changes = (hidden[1:] - hidden[:-1]).float().pow(2).mean(-1)
            total = total + self.config.change_penalty * changes[real[1:]].sum()
        return total, loss, state

    def hidden_matrices(self) -> list[tuple[nn.Parameter, int]]:
        """See ``LanguageModel.hidden_matrices``."""
        return self.encoder.hidden_matrices()
