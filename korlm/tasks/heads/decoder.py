"""Recurrent decoder with attention: states of an encoder -> log-probabilities of target tokens.

Axes: B batch, S source tokens, T target tokens, N rows (hypotheses), E embedding, H hidden units,
A attentional features, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import AttentionScore, InitialState, RecurrentConfig
from korlm.modules.adaptive_softmax import build_output
from korlm.modules.base import State
from korlm.modules.dropout import dropout_mask
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.encoder import EncoderOutput
from korlm.modules.rnn import RecurrentLayer
from korlm.tasks.heads.attention import Attention, Memory

Part = TypeVar("Part")


class DecoderOutput(NamedTuple):
    """Outputs for all target tokens of a batch.

    Attributes:
        vectors: (B, T, A), the input of the output layer.
        weights: (B, T, S), attention.
        output_weight: see ``TokenEmbedding.embed``.
    """

    vectors: Tensor
    weights: Tensor
    output_weight: Tensor | None


class AttentionDecoder(nn.Module):
    """Decoder of Luong et al. 2015 with a choice of scores.

    Each step reads the token before; the state of the last layer is the query of the attention, and
    the attentional vector tanh(W [context; state]) (equation 5) predicts the token. With input
    feeding (section 3.3) that vector is also part of the input of the next step, so that the
    decoder knows what it has attended to.

    The initial state of a layer is computed from the final states of the encoder's layer of the
    same number, of both directions: tanh(W s + b) for h, as in Bahdanau et al. 2015, W s + b for
    the cell of an LSTM.

    Args:
        embedding: of target tokens; the encoder may share it.
        config: cell, layers, dropouts. Dropout of weights and of recurrent states is not applied.
        encoder_state_dims: number of features of each part of the encoder's state.
        memory_dim: number of features of the encoder's output.
        score: formula of the attention.
        input_feeding: see above; the steps of training then run one by one.
        vocab_size: V.
    """

    layers: Sequence[RecurrentLayer]

    def __init__(
        self,
        embedding: TokenEmbedding,
        config: RecurrentConfig,
        encoder_state_dims: Sequence[int],
        memory_dim: int,
        score: AttentionScore,
        input_feeding: bool,
        vocab_size: int,
    ) -> None:
        super().__init__()
        config = dataclasses.replace(
            config,
            # In a loop over single steps these two would draw a new mask in each step.
            weight_dropout=0.0,
            recurrent_dropout=0.0,
            initial_state=InitialState.zero,  # the encoder gives it; no parameters
        )
        self.embedding = embedding
        self.config = config
        self.feeds_input = input_feeding
        hidden, tied = config.hidden_dim, config.tie_weights
        self.output_dim = config.embedding_dim if tied else hidden
        first = config.embedding_dim + (self.output_dim if input_feeding else 0)
        inputs = [first] + [hidden] * (config.num_layers - 1)
        layers = nn.ModuleList(RecurrentLayer(size, hidden, config) for size in inputs)
        self.layers = cast(Sequence[RecurrentLayer], layers)
        self.bridge = nn.ModuleList(
            nn.Linear(sum(dims), hidden) for dims in self.bridge_inputs(encoder_state_dims)
        )
        self.attention = Attention(score, hidden, memory_dim)
        self.combine = nn.Linear(memory_dim + hidden, self.output_dim, bias=False)
        self.output = build_output(
            config, self.output_dim, vocab_size, embedding.weight if tied else None
        )

    def bridge_inputs(self, encoder_state: Sequence[Part]) -> list[Sequence[Part]]:
        """Return the parts of the encoder's state that each part of the initial state depends on.

        These are the parts of the same layer and kind (h or c) of both directions.
        """
        kinds = self.layers[0].num_states
        per_layer = len(encoder_state) // self.config.num_layers
        return [
            encoder_state[begin + kind : begin + per_layer : kinds]
            for begin in range(0, len(encoder_state), per_layer)
            for kind in range(kinds)
        ]

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """See ``Trainable.muon_weights``."""
        weights = [pair for layer in self.layers for pair in layer.muon_weights()]
        return [*weights, (self.combine.weight, 1)]

    def start(self, encoded: EncoderOutput, lengths: Tensor | None) -> tuple[Memory, State]:
        """Return the memory and the initial state of the decoder for encoded sources.

        The state has the parts of each layer, (B, H), and with input feeding a last one (B, A).
        """
        state: State = ()
        for linear, parts in zip(self.bridge, self.bridge_inputs(encoded.state), strict=True):
            x = linear(torch.cat(list(parts), -1))
            is_cell = len(state) % self.layers[0].num_states == 1
            state += (x if is_cell else torch.tanh(x),)
        if self.feeds_input:
            state += (encoded.output.new_zeros(len(encoded.output), self.output_dim),)
        return self.attention.memory(encoded.output, lengths), state

    def forward(
        self, inputs: Tensor, memory: Memory, state: State, forcing_ratio: float = 1.0
    ) -> DecoderOutput:
        """Run the decoder over given tokens.

        Args:
            inputs: int64 (B, T), the token before each target; <pad> at the end is harmless.
            memory: of the sources.
            state: the initial state.
            forcing_ratio: probability of using the given token as input; otherwise it is the most
                probable token of the step before (scheduled sampling, Bengio et al. 2015).
        """
        table: Tensor | None = None
        if forcing_ratio < 1:  # steps look tokens up with the same embedding dropout
            every_id = torch.arange(self.embedding.num_embeddings, device=inputs.device)
            table, output_weight = self.embedding.embed(every_id)  # (V, E)
            x = F.embedding(inputs.t(), table)  # (T, B, E)
        else:
            x, output_weight = self.embedding.embed(inputs.t())  # (T, B, E)
        masks = self._dropout_masks(x)
        if forcing_ratio == 1 and not self.feeds_input:
            vectors, weights, _ = self._run(x, state, memory, masks)
            return DecoderOutput(vectors, weights, output_weight)
        is_forced = torch.rand(inputs.shape, device=inputs.device) < forcing_ratio
        steps: list[Tensor] = []
        step_weights: list[Tensor] = []
        for t in range(len(x)):
            step_x = x[t : t + 1]
            if t and table is not None:
                with torch.no_grad():
                    predicted = self.output.log_probs(steps[-1][:, 0], output_weight).argmax(-1)
                ids = torch.where(is_forced[:, t], inputs[:, t], predicted)
                step_x = F.embedding(ids[None], table)
            step_masks = [mask if mask is None else mask[t : t + 1] for mask in masks]
            vectors, weights, state = self._run(step_x, state, memory, step_masks)
            steps.append(vectors)
            step_weights.append(weights)
        return DecoderOutput(torch.cat(steps, 1), torch.cat(step_weights, 1), output_weight)

    def step(self, ids: Tensor, memory: Memory, state: State) -> tuple[Tensor, Tensor, State]:
        """Run one step for several hypotheses per source, in evaluation mode.

        Args:
            ids: int64 (B, N), the last token of each hypothesis.
            memory: of the B sources.
            state: the parts have B * N rows.

        Returns:
            Log-probabilities of the next token, (B, N, V); attention weights (B, N, S); the state.
        """
        x, output_weight = self.embedding.embed(ids.reshape(1, -1))
        masks: list[Tensor | None] = [None] * (len(self.layers) + 1)
        vectors, weights, state = self._run(x, state, memory, masks, len(ids))
        return self.output.log_probs(vectors, output_weight), weights, state

    def _run(
        self,
        x: Tensor,
        state: State,
        memory: Memory,
        masks: Sequence[Tensor | None],
        batch_size: int | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """Run all layers and the attention.

        Args:
            x: (T, N, E); T = 1 with input feeding.
            state: before the first step.
            memory: of B sources.
            masks: of the dropout before each layer and at the end.
            batch_size: B if the N rows are B * (N / B) hypotheses of one step, else None (N = B).

        Returns:
            Attentional vectors and weights, (B, T, A) and (B, T, S) or, for hypotheses,
            (B, N / B, A) and (B, N / B, S); the state.
        """
        new_state: State = ()
        if self.feeds_input:
            x = torch.cat([x, state[-1][None].to(x.dtype)], -1)
        for layer, mask in zip(self.layers, masks, strict=False):
            x = x if mask is None else x * mask
            layer_state = state[len(new_state) : len(new_state) + layer.num_states]
            x, new_layer_state = layer(x, layer_state, None)
            new_state += new_layer_state
        hidden = x.transpose(0, 1) if batch_size is None else x.view(batch_size, -1, x.shape[-1])
        context, weights = self.attention(hidden, memory)
        vectors = torch.tanh(self.combine(torch.cat([context, hidden], -1)))
        if self.feeds_input:
            new_state += (vectors.reshape(-1, self.output_dim),)
        if masks[-1] is not None:
            vectors = vectors * masks[-1].transpose(0, 1)
        return vectors, weights, new_state

    def _dropout_masks(self, x: Tensor) -> list[Tensor | None]:
        """Return masks (T, B, features) for the input of each layer and the attentional vectors.

        They are drawn before the first step, so that a loop over steps gives the same result.
        """
        config, (steps, rows, _) = self.config, x.shape
        inputs = [layer.weight_ih.shape[1] for layer in self.layers]
        rates = [config.input_dropout] + [config.hidden_dropout] * (len(inputs) - 1)
        masks: list[Tensor | None] = []
        for rate, size in zip(
            [*rates, config.output_dropout], [*inputs, self.output_dim], strict=True
        ):
            if not self.training or rate == 0:
                masks.append(None)
                continue
            drawn = 1 if config.variational_dropout else steps
            masks.append(dropout_mask(x, rate, drawn, rows, size).expand(steps, -1, -1))
        return masks
