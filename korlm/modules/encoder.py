"""Recurrent encoder: token ids -> hidden states, shared by language models and other tasks.

Axes: B batch, T time, E embedding, D hidden units of the output, V vocabulary. Ids are (B, T) and
are transposed to (T, B) before the embedding, since recurrent kernels are time-first.

ONNX graphs write ``forward`` a second time (``modules/onnx_nodes.py``,
``exporting/onnx_encoder.py``); an export compares the two.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from korlm.config import ModelConfig, RecurrentConfig
from korlm.modules.base import State
from korlm.modules.dropout import sequence_dropout
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.padding import reverse_valid
from korlm.modules.rnn import RecurrentLayer


class EncoderOutput(NamedTuple):
    """Hidden states of a batch.

    Attributes:
        raw_output: (B, T, D), output of the last layer before output dropout.
        output: (B, T, D), after output dropout: the hidden states that a head reads.
        state: the state after the last token of each row.
        output_weight: the embedding matrix (V, E), without dropout, if the softmax head is tied to
            it, else None. A tied head must use this copy, see ``TokenEmbedding.embed``.
    """

    raw_output: Tensor
    output: Tensor
    state: State
    output_weight: Tensor | None


class RecurrentEncoder(nn.Module):
    """Embedding, recurrent layers and dropout.

    embedding dropout -> concatenate features -> input dropout -> layer -> hidden dropout -> layer
    ... -> output dropout

    With ``bidirectional=True`` every layer also has a backward layer, which reads each row from its
    last token to its first, and their outputs are concatenated. Each row must then be complete: a
    state that is carried from batch to batch has no meaning for the backward direction, and a
    language model must not be bidirectional, since it would have read the token that it predicts.

    Args:
        embedding: the token embedding, which the caller may share with a head or another encoder.
        config: cell, number and size of layers, dropouts.
        last_dim: hidden units of the last layer, per direction; None: ``config.hidden_dim``.
        bidirectional: add the backward direction.
        feature_dim: size of further features of each token, which ``forward`` receives.

    Attributes:
        layers: the forward layers, an ``nn.ModuleList``; ``backward_layers`` may be empty.
        output_dim: D, hidden units of the last layer, both directions together.
    """

    layers: Sequence[RecurrentLayer]
    backward_layers: Sequence[RecurrentLayer]

    def __init__(
        self,
        embedding: TokenEmbedding,
        config: RecurrentConfig,
        last_dim: int | None = None,
        bidirectional: bool = False,
        feature_dim: int = 0,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.config = config
        directions = 2 if bidirectional else 1
        sizes = [config.hidden_dim] * (config.num_layers - 1) + [last_dim or config.hidden_dim]
        inputs = [config.embedding_dim + feature_dim, *(directions * size for size in sizes[:-1])]
        self.output_dim = directions * sizes[-1]

        def build_layers() -> Any:
            return nn.ModuleList(
                RecurrentLayer(*dims, config) for dims in zip(inputs, sizes, strict=True)
            )

        self.layers = build_layers()
        self.backward_layers = build_layers() if bidirectional else ()

    def directions(self) -> list[tuple[RecurrentLayer, ...]]:
        """Return (forward,) or (forward, backward) of each layer, from the lowest."""
        stacks = [self.layers, self.backward_layers] if self.backward_layers else [self.layers]
        return list(zip(*stacks, strict=True))

    def initial_state(self, batch_size: int) -> State:
        """Return the initial states of all layers, from the lowest, each (batch_size, units).

        A layer has h, or h and c; if bidirectional, of the forward and then the backward direction.
        """
        layers = itertools.chain.from_iterable(self.directions())
        return tuple(part for layer in layers for part in layer.initial_state(batch_size))

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """Return those of all layers; see ``RecurrentLayer.muon_weights``."""
        layers = itertools.chain.from_iterable(self.directions())
        return [pair for layer in layers for pair in layer.muon_weights()]

    def forward(
        self,
        ids: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
        needs_state: bool = True,
    ) -> EncoderOutput:
        """Encode a batch.

        Args:
            ids: int64 (B, T).
            state: the state before the batch; None: the initial state.
            lengths: int64 (B,) on the CPU, the number of valid tokens in each row, 1 or more;
                outputs beyond it are undefined. None: all rows have T tokens.
            features: (B, T, F), further features of the tokens; F is ``feature_dim``.
            needs_state: whether ``state`` of the result is used. False skips packing the rows and
                is several times as fast on a CPU; ``state`` is then undefined.
        """
        state = self.initial_state(len(ids)) if state is None else state
        embeddings, output_weight = self.embedding.embed(ids.t())  # (T, B, E)
        if features is not None:
            embeddings = torch.cat([embeddings, features.transpose(0, 1)], -1)
        x = self._dropout(embeddings, self.config.input_dropout)
        packing_lengths = lengths if needs_state else None
        new_state: State = ()
        for number, layers in enumerate(self.directions()):
            if number:
                x = self._dropout(x, self.config.hidden_dropout)
            outputs = []
            for is_backward, layer in enumerate(layers):
                # States have the order of the layers, so that as many are read as were written.
                layer_state = state[len(new_state) : len(new_state) + layer.num_states]
                inputs = reverse_valid(x, lengths) if is_backward else x
                out, new_layer_state = layer(inputs, layer_state, packing_lengths)
                outputs.append(reverse_valid(out, lengths) if is_backward else out)
                new_state += new_layer_state
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
        dropped = self._dropout(x, self.config.output_dropout)
        return EncoderOutput(x.transpose(0, 1), dropped.transpose(0, 1), new_state, output_weight)

    def _dropout(self, x: Tensor, p: float) -> Tensor:
        return sequence_dropout(x, p, self.training, self.config.variational_dropout)


class PairedEncoder(nn.Module):
    """A forward encoder and one that reads each row backwards, each with its own embedding.

    Unlike in ``RecurrentEncoder(bidirectional=True)``, no layer reads the output of the other
    direction, so that the weights of a forward and a backward language model can be copied in
    (Peters et al. 2018).
    """

    def __init__(
        self, forward_encoder: RecurrentEncoder, backward_encoder: RecurrentEncoder
    ) -> None:
        super().__init__()
        self.forward_encoder, self.backward_encoder = forward_encoder, backward_encoder
        self.output_dim = forward_encoder.output_dim + backward_encoder.output_dim

    @property
    def embedding(self) -> TokenEmbedding:
        """The embedding of the forward encoder."""
        return self.forward_encoder.embedding

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """See ``RecurrentEncoder.muon_weights``."""
        return self.forward_encoder.muon_weights() + self.backward_encoder.muon_weights()

    def forward(
        self,
        ids: Tensor,
        *,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
        needs_state: bool = True,
    ) -> EncoderOutput:
        """Encode a batch of complete rows; see ``RecurrentEncoder.forward``."""

        def reverse(x: Tensor) -> Tensor:
            return reverse_valid(x.transpose(0, 1), lengths).transpose(0, 1)

        reversed_ids = reverse(ids[..., None])[..., 0]
        reversed_features = None if features is None else reverse(features)
        left = self.forward_encoder(ids, None, lengths, features, needs_state)
        right = self.backward_encoder(reversed_ids, None, lengths, reversed_features, needs_state)
        return EncoderOutput(
            torch.cat([left.raw_output, reverse(right.raw_output)], -1),
            torch.cat([left.output, reverse(right.output)], -1),
            left.state + right.state,
            None,
        )


def build_encoder(
    config: ModelConfig,
    vocab_size: int,
    tokens: Sequence[str] | None = None,
    bidirectional: bool = True,
    pretrained: bool = False,
    feature_dim: int = 0,
) -> RecurrentEncoder | PairedEncoder:
    """Return the encoder of a classifier or a tagger.

    It has no softmax head, so settings of weight tying and of the output layer have no effect.

    Args:
        config: of model=lstm, gru or rnn (which the settings check).
        vocab_size: V.
        tokens: the V tokens, in the order of their ids; required for subwords.
        bidirectional: add the backward direction.
        pretrained: the weights will be those of language models with the settings ``config``: with
            ``config.tie_weights``, the last layer has ``embedding_dim`` units.
        feature_dim: see ``RecurrentEncoder``; columns of features are not pretrained.
    """
    assert isinstance(config, RecurrentConfig)
    last_dim = config.embedding_dim if pretrained and config.tie_weights else None
    config = config.without_head()

    def build(bidirectional: bool) -> RecurrentEncoder:
        embedding = TokenEmbedding(config, vocab_size, tokens)
        return RecurrentEncoder(embedding, config, last_dim, bidirectional, feature_dim)

    if pretrained and bidirectional:
        return PairedEncoder(build(False), build(False))
    return build(bidirectional)
