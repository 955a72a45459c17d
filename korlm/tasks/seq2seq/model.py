"""Encoder and decoder with attention, and the search for the best texts.

Axes: B batch, S source tokens, T target tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from korlm.config import AttentionScore, RecurrentConfig, Seq2SeqConfig, SubwordMode
from korlm.dataset.example_batches import padded_batches
from korlm.dataset.text_encoder import EncodedText
from korlm.dataset.vocab import BOS_ID, Vocab
from korlm.detokenizers.base import Detokenizer
from korlm.modules.base import State, Trainable
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.encoder import RecurrentEncoder
from korlm.tasks.base import Predictor
from korlm.tasks.heads.attention import Memory
from korlm.tasks.heads.beam_search import BeamSettings, DecodedSequence, batched_beam_search
from korlm.tasks.heads.decoder import AttentionDecoder, DecoderOutput
from korlm.utils.errors import ConfigError
from korlm.utils.torch_backend import tf32

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


class TextPredictor(Predictor):
    """Writes one text or several for each line; an empty one for a blank line."""

    def __init__(
        self,
        vocab: Vocab,
        detokenizer: Detokenizer,
        config: Seq2SeqConfig,
        model: Seq2Seq,
        device: torch.device,
    ) -> None:
        self.vocab, self.detokenizer, self.config = vocab, detokenizer, config
        self.model, self.device = model.inference_copy(), device
        self.set_num_best(1)

    def set_num_best(self, number: int) -> None:
        """See ``Predictor.set_num_best``; columns of further texts end in _2, _3, ..."""
        if number > self.config.num_beams:
            raise ConfigError(
                f"num_best={number}: the run searches with task.num_beams={self.config.num_beams}; "
                "give at most that many"
            )
        self._endings = ["", *(f"_{rank}" for rank in range(2, number + 1))]
        kinds = (("prediction", pa.string()), ("log_prob", pa.float64()))
        self.schema = pa.schema([(name + e, kind) for e in self._endings for name, kind in kinds])

    @torch.inference_mode()
    def predict(self, lines: EncodedText) -> list[dict[str, Any]]:
        """See ``Predictor.predict``."""
        empty: dict[str, Any] = dict.fromkeys(self.schema.names) | {"prediction": ""}
        predictions = [dict(empty) for _ in lines.lengths]
        (non_blank,) = np.nonzero(lines.lengths)
        sequences = [ids for ids in lines.lines() if len(ids)]
        with tf32(False):
            for batch, inputs, lengths in padded_batches(sequences):
                memory, state = self.model.encode(inputs.to(self.device), lengths)
                num_best = len(self._endings)
                results = search(self.model, memory, state, lengths.tolist(), self.config, num_best)
                for number, hypotheses in zip(non_blank[batch].tolist(), results, strict=True):
                    row = predictions[number]
                    for ending, hypothesis in zip(self._endings, hypotheses, strict=False):
                        tokens = self.vocab.decode(hypothesis.ids)
                        row[f"prediction{ending}"] = self.detokenizer.detokenize(tokens)
                        row[f"log_prob{ending}"] = hypothesis.log_prob
        return predictions
