"""Encoder and decoder with attention, and the search for the best texts.

Axes: B batch, S source tokens, T target tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from korlm.config import AttentionScore, RecurrentConfig, Seq2SeqConfig, SubwordMode
from korlm.dataset.vocab import BOS_ID
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.encoder import RecurrentEncoder
from korlm.modules.state import State
from korlm.modules.trainable import Trainable
from korlm.tasks.heads.attention import Memory
from korlm.tasks.heads.beam_search import BeamSettings, DecodedSequence, batched_beam_search
from korlm.tasks.heads.decoder import AttentionDecoder, DecoderOutput

EXTRA_LENGTH = 10  # see ``Seq2SeqConfig.max_length_ratio``


class Seq2Seq(Trainable):
    """Encoder and decoder with attention.

    Args:
        config: cell, layers and dropouts of both.
        task: attention and decoder.
        vocab_size: V, of sources and targets together.
        tokens: the V tokens, in the order of their ids; required for subwords.
    """

    def __init__(
        self,
        config: RecurrentConfig,
        task: Seq2SeqConfig,
        vocab_size: int,
        tokens: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(config, vocab_size, tokens)
        source_embedding = self.embedding
        if not task.share_embedding:
            source_embedding = TokenEmbedding(config, vocab_size, tokens)
        last_dim = config.hidden_dim
        if task.attention is AttentionScore.dot and task.bidirectional:
            last_dim //= 2  # an output of the encoder has the size of a state of the decoder
        self.encoder = RecurrentEncoder(source_embedding, config, last_dim, task.bidirectional)
        self.decoder = AttentionDecoder(
            self.embedding,
            config,
            [part.shape[1] for part in self.encoder.initial_state(1)],
            self.encoder.output_dim,
            task.attention,
            task.input_feeding,
            vocab_size,
        )

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """See ``Trainable.muon_weights``."""
        return self.encoder.muon_weights() + self.decoder.muon_weights()

    def inference_copy(self) -> Seq2Seq:
        """Return the model, or with subwords a copy whose embeddings are plain."""
        if self.embedding.subword_mode is SubwordMode.none:
            return self
        model = copy.deepcopy(self).requires_grad_(False).eval()
        model.embedding.materialize(model.decoder.output)
        model.encoder.embedding.materialize()
        return model

    def encode(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Memory, State]:
        """Return the memory of sources, int64 (B, S), and the initial state of the decoder.

        ``lengths``, int64 (B,) on the CPU, are the tokens of each row; None: S.
        """
        return self.decoder.start(self.encoder(inputs, lengths=lengths), lengths)

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor | None,
        targets: Tensor,
        forcing_ratio: float = 1.0,
    ) -> DecoderOutput:
        """Run the decoder over given targets.

        Args:
            inputs: see ``encode``.
            lengths: see ``encode``.
            targets: int64 (B, T), <eos> at the end, then <pad>.
            forcing_ratio: see ``AttentionDecoder.forward``.
        """
        return self.decode(*self.encode(inputs, lengths), targets, forcing_ratio)

    def decode(
        self, memory: Memory, state: State, targets: Tensor, forcing_ratio: float = 1.0
    ) -> DecoderOutput:
        """Run the decoder over given targets for encoded sources; see ``forward``."""
        inputs = torch.cat([targets.new_full((len(targets), 1), BOS_ID), targets[:, :-1]], 1)
        out: DecoderOutput = self.decoder(inputs, memory, state, forcing_ratio)
        return out


def search(
    model: Seq2Seq,
    memory: Memory,
    state: State,
    lengths: Sequence[int],
    config: Seq2SeqConfig,
    num_best: int = 1,
) -> list[list[DecodedSequence]]:
    """Return the ``num_best`` best texts for each encoded source by beam search.

    ``lengths``, (B,), are the tokens of the sources, which limit those of the texts.
    """
    settings = BeamSettings(
        config.num_beams, num_best, config.length_penalty, config.coverage_penalty
    )
    limits = [math.ceil(config.max_length_ratio * n) + EXTRA_LENGTH for n in lengths]
    return batched_beam_search(model.decoder, memory, state, limits, settings)
