"""Neural language models: an encoder and a softmax head.

Axes: B batch, T time, H hidden (input of the head), V vocabulary.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor

from korlm.dataset.vocab import PAD_ID
from korlm.models.base import LanguageModel, TrainingLoss
from korlm.modules.base import State
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.encoder import EncoderOutput
from korlm.modules.softmax import SoftmaxHead

if TYPE_CHECKING:
    from korlm.exporting.onnx_graph import Graph


class NeuralLM(LanguageModel, ABC):
    """A language model that predicts from one hidden vector per timestep.

    A subclass sets the attributes and implements ``encode`` and ``initial_state``.

    Attributes:
        embedding: the token embedding.
        output: the softmax head.
    """

    embedding: TokenEmbedding
    output: SoftmaxHead

    @abstractmethod
    def encode(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> EncoderOutput:
        """Return the hidden states (B, T, H) of a batch; for the arguments see the base class."""

    def encode_and_nll(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """Return the hidden states (B, T, H), ``token_nll`` (B, T) and the new state."""
        encoded = self.encode(inputs, state, lengths)
        nll = self.output.token_nll(
            encoded.output.flatten(0, 1), targets.flatten(), encoded.output_weight
        )
        return encoded.output, nll.view(targets.shape), encoded.state

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.log_probs``."""
        encoded = self.encode(inputs, state, lengths)
        return self.output.log_probs(encoded.output, encoded.output_weight), encoded.state

    def advance(self, inputs: Tensor, state: State | None = None) -> State:
        """See ``LanguageModel.advance``."""
        return self.encode(inputs, state).state

    def inference_copy(self) -> NeuralLM:
        """See ``LanguageModel.inference_copy``; subword embeddings become plain ones."""
        model = copy.deepcopy(self).requires_grad_(False).eval()
        model.embedding.materialize(model.output)
        return model

    def token_nll(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.token_nll``; never holds the log-probabilities of a whole batch."""
        _, nll, state = self.encode_and_nll(inputs, targets, state, lengths)
        return nll, state

    def token_nll_and_entropy(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """See ``LanguageModel.token_nll_and_entropy``; encodes the text once."""
        encoded = self.encode(inputs, state, lengths)
        target_mask = targets != PAD_ID
        values = self.output.token_nll_and_entropy(
            encoded.output[target_mask], targets[target_mask], encoded.output_weight
        )
        nll, entropy = (
            encoded.output.new_zeros(targets.shape).masked_scatter(target_mask, part)
            for part in values
        )
        return nll, entropy, encoded.state

    def training_loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> TrainingLoss:
        """See ``LanguageModel.training_loss``."""
        encoded = self.encode(inputs, state, lengths)
        nll = self.output.cross_entropy_sum(
            encoded.output.flatten(0, 1), targets.flatten(), encoded.output_weight
        )
        total = nll + self._activation_regularization(encoded, targets != PAD_ID)
        return TrainingLoss(total, nll, encoded.state)

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
        self, encoded: EncoderOutput, target_mask: Tensor
    ) -> Tensor | float:
        """Return the regularization of a batch, summed over the tokens of target_mask (B, T)."""
        return 0.0
