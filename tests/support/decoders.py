"""Small decoders with random weights for the tests of sequence to sequence."""

from __future__ import annotations

from typing import Any

import torch
from model_cases import TOKENS, VOCAB_SIZE, make_config, scatter
from torch import Tensor

from korlm.config import AttentionScore
from korlm.modules.base import State
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.encoder import RecurrentEncoder
from korlm.tasks.heads.attention import Memory
from korlm.tasks.heads.decoder import AttentionDecoder

SOURCES = torch.tensor([[4, 5, 6, 7], [8, 0, 0, 0], [9, 10, 4, 0]])
LENGTHS = torch.tensor([4, 1, 3])


def make_decoder(
    cell: str = "lstm",
    score: AttentionScore = AttentionScore.general,
    input_feeding: bool = False,
    vocab_size: int = VOCAB_SIZE,
    **options: Any,
) -> tuple[RecurrentEncoder, AttentionDecoder]:
    """Return an encoder with 2 * 7 features per token, or 2 * 3 for ``dot``, and a decoder."""
    sizes = {"embedding_dim": 5, "hidden_dim": 6, "num_layers": 2, "tie_weights": False}
    config = make_config(cell, **{**sizes, **options})
    embedding = TokenEmbedding(config, vocab_size, TOKENS[:vocab_size])
    last = config.hidden_dim // 2 if score is AttentionScore.dot else 7
    encoder = RecurrentEncoder(TokenEmbedding(config, VOCAB_SIZE, TOKENS), config, last, True)
    state = [part.shape[1] for part in encoder.initial_state(1)]
    decoder = AttentionDecoder(
        embedding, config, state, encoder.output_dim, score, input_feeding, vocab_size
    )
    for module in (encoder, decoder):
        scatter(module)
    return encoder.eval(), decoder.eval()


def start(
    encoder: RecurrentEncoder,
    decoder: AttentionDecoder,
    sources: Tensor = SOURCES,
    lengths: Tensor = LENGTHS,
) -> tuple[Memory, State]:
    """Encode sources; return the memory and the initial state of the decoder."""
    with torch.no_grad():
        return decoder.start(encoder(sources, lengths=lengths), lengths)
