"""Token embeddings, with or without the subwords of each token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import NeuralConfig, SubwordMode
from korlm.modules.dropout import embedding_dropout
from korlm.modules.subword_embedding import INIT_RANGE, SubwordEmbedding, _TiedLookup


class TokenEmbedding(nn.Embedding):
    """The embeddings of all tokens, composed or plain.

    Args:
        config: size, and where spelling counts.
        vocab_size: V.
        tokens: of all ids; needed where spelling counts.
    """

    def __init__(
        self, config: NeuralConfig, vocab_size: int, tokens: Sequence[str] | None = None
    ) -> None:
        super().__init__(vocab_size, config.embedding_dim)
        nn.init.uniform_(self.weight, -INIT_RANGE, INIT_RANGE)
        self.dropout = config.embedding_dropout
        self.spelling = config.subword_embedding
        self.is_tied = config.tie_weights
        if config.subword_embedding is not SubwordMode.none:
            assert tokens is not None and len(tokens) == vocab_size
            self.composition = SubwordEmbedding(tokens, config.embedding_dim)
            with torch.no_grad():  # both parts together spread as the plain embedding does
                for part in (self.weight, self.composition.weight):
                    part.mul_(0.5**0.5)

    def output_matrix(self) -> Tensor | None:
        """The composed matrix (V, E), if it is the output layer's as well: costly, once a step."""
        if self.spelling is not SubwordMode.both:
            return None
        composed: Tensor = self.composition(self.weight)
        return composed

    def full_weight(self) -> Tensor:
        """What is read for each token, (V, E)."""
        if self.spelling is SubwordMode.none:
            return self.weight
        composed: Tensor = self.composition(self.weight)
        return composed

    def materialize(self) -> None:
        """From now on plain embeddings, equal to the composed ones; the output layer's stay."""
        if self.spelling is not SubwordMode.none:
            self.weight = nn.Parameter(self.full_weight(), self.weight.requires_grad)
            self.spelling, self.is_tied = SubwordMode.none, False
            del self.composition

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Ids of any shape -> their embeddings (..., E), whole tokens dropped in training.

        Args:
            ids: int64.

        Returns:
            The embeddings; if they are the output layer's as well, the matrix (V, E) that it is to
            use. Nobody else may, as its gradient is added to in place.
        """
        matrix: Tensor | None = None
        if self.is_tied and self.spelling is not SubwordMode.input:
            whole = self.output_matrix()
            whole = self.weight if whole is None else whole
            found, matrix = _TiedLookup.apply(whole, ids)  # type: ignore[no-untyped-call]
        elif self.spelling is SubwordMode.none:
            found = F.embedding(ids, self.weight)
        elif ids.device.type == "cpu":
            rows, places = torch.unique(ids, return_inverse=True)
            few = F.embedding(rows, self.weight) + self.composition.for_tokens(rows)
            found = F.embedding(places, few)
        else:  # asking a GPU how many different ones there are would wait for it
            found = F.embedding(ids, self.composition(self.weight))
        return embedding_dropout(
            found, ids, self.num_embeddings, self.dropout, self.training
        ), matrix
