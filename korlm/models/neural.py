"""What all networks have in common: embeddings, something that reads, an output layer.

Axes: B batch, T time, H what the output layer reads, V vocabulary.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from korlm.dataset.vocab import PAD_ID
from korlm.models.base import LanguageModel, TrainingLoss
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.softmax import SoftmaxHead
from korlm.modules.state import State

if TYPE_CHECKING:
    from korlm.exporting.onnx_graph import Graph


class NeuralLM(LanguageModel, ABC):
    """A language model that predicts from one vector, its hidden state, at every timestep.

    Attributes:
        embedding: of the tokens.
        output: hidden state -> probabilities.
    """

    embedding: TokenEmbedding
    output: SoftmaxHead

    @abstractmethod
    def _read(
        self, inputs: Tensor, state: State | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, State, Tensor | None]:
        """Reads a batch.

        Args:
            inputs: int64 (B, T).
            state: what was read before.
            lengths: int64 (B,), where rows end.

        Returns:
            Hidden states (B, T, H) without and with output dropout; the new state; the matrix
            (V, H) for the output layer, if the embedding has it.
        """

    def hidden(self, inputs: Tensor, state: State) -> tuple[Tensor, State, Tensor | None]:
        """What is predicted from, before anything is predicted.

        Args:
            inputs: int64 (B, T).
            state: what was read before.

        Returns:
            float32 (B, T, H), as the output layer takes it; the state; the matrix (V, H) for the
            output layer, if the embedding has it.
        """
        _, hidden, state, matrix = self._read(inputs, state, None)
        return hidden, state, matrix

    def encode_and_nll(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """What is predicted from, what each target costs, and the new state.

        Args:
            inputs: int64 (B, T).
            targets: int64 (B, T).
            state: what was read before.
            lengths: int64 (B,) on the CPU; where a row ends.

        Returns:
            float32 (B, T, H); ``token_nll``, float32 (B, T); the state.
        """
        _, hidden, state, matrix = self._read(inputs, state, lengths)
        nats = self.output.token_nll(hidden.flatten(0, 1), targets.flatten(), matrix)
        return hidden, nats.view(targets.shape), state

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.log_probs``."""
        _, hidden, state, matrix = self._read(inputs, state, lengths)
        return self.output.log_probs(hidden, matrix), state

    def advance(self, inputs: Tensor, state: State | None = None) -> State:
        """See ``LanguageModel.advance``."""
        return self._read(inputs, state, None)[2]

    def inference_copy(self) -> NeuralLM:
        """See ``LanguageModel.inference_copy``; the embeddings are composed here."""
        model = copy.deepcopy(self).requires_grad_(False).eval()
        matrix = model.embedding.output_matrix()
        if matrix is not None:
            model.output.weight = nn.Parameter(matrix, requires_grad=False)
        model.embedding.materialize()
        return model

    def token_nll(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.token_nll``; never holds the log-probabilities of a whole batch."""
        _, nats, state = self.encode_and_nll(inputs, targets, state, lengths)
        return nats, state

    def token_nll_and_entropy(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """See ``LanguageModel.token_nll_and_entropy``; reads the text once."""
        _, hidden, state, matrix = self._read(inputs, state, lengths)
        real = targets != PAD_ID
        found = self.output.token_nll_and_entropy(hidden[real], targets[real], matrix)
        nats, entropy = (hidden.new_zeros(targets.shape).masked_scatter(real, f) for f in found)
        return nats, entropy, state

    def training_loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> TrainingLoss:
        """See ``LanguageModel.training_loss``."""
        plain, hidden, state, matrix = self._read(inputs, state, lengths)
        nll = self.output.cross_entropy_sum(hidden.flatten(0, 1), targets.flatten(), matrix)
        total = nll + self._activation_regularization(plain, hidden, targets != PAD_ID)
        return TrainingLoss(total, nll, state)

    def state_names(self) -> list[str]:
        """Return the names of the parts of a state in ONNX graphs."""
        return [f"state{number}" for number in range(len(self.initial_state(1)))]

    def export_step(self, graph: Graph) -> str:
        """Write one step in evaluation mode to an ONNX graph, up to the output layer.

        Args:
            graph: has the inputs ``ids``, int64 (B,), and the parts of the state by
                ``state_names``, and the matrix ``embedding``. The new state must be written to it
                by the same names with ``next_`` before them.

        Returns:
            The name of the hidden state (B, H), which the output layer takes.

        Raises:
            NotImplementedError: the model cannot be exported to ONNX.
        """
        raise NotImplementedError

    def _activation_regularization(
        self, plain: Tensor, hidden: Tensor, real: Tensor
    ) -> Tensor | float:
        """What training adds to the loss; arguments (B, T, H), (B, T, H) and bool (B, T)."""
        return 0.0
