"""Token embeddings, plain or with subword information, that a softmax head may share.

Axes: V vocabulary, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import NeuralConfig, SubwordMode
from korlm.modules.dropout import embedding_dropout
from korlm.modules.softmax import SoftmaxHead
from korlm.modules.subword_embedding import INIT_RANGE, SubwordEmbedding


class _TiedLookup(torch.autograd.Function):
    """Return the embeddings of ids, and the matrix itself for the tied output layer.

    The backward pass receives both gradients together and adds the embeddings' gradient to the
    matrix' gradient in place, instead of creating a second (V, E) matrix that is mostly 0. A cached
    ``torch.nn.utils.parametrize`` with plain autograd would replace it at the same speed (0.93 to
    1.0 of the step, 2026-11-29), but with other last digits of gradients and other checkpoint keys.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(ids)
        return F.embedding(ids, weight), weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        grad_embeddings, grad_weight = grads
        rows = grad_embeddings.reshape(-1, grad_embeddings.shape[-1])
        # In place: grad_weight comes from the output layer and is used here only. It is all 0 if
        # the output layer was not used.
        return grad_weight.index_add_(0, ids.flatten(), rows), None


class TokenEmbedding(nn.Embedding):
    """Embeddings of all tokens: E[w], or E[w] + the subword sum of w.

    ``tokens``, in the order of their ids, are required for subwords.
    """

    def __init__(
        self, config: NeuralConfig, vocab_size: int, tokens: Sequence[str] | None = None
    ) -> None:
        super().__init__(vocab_size, config.embedding_dim)
        nn.init.uniform_(self.weight, -INIT_RANGE, INIT_RANGE)
        self.dropout = config.embedding_dropout
        self.subword_mode = config.subword_embedding
        self.is_tied = config.tie_weights
        if config.subword_embedding is not SubwordMode.none:
            assert tokens is not None and len(tokens) == vocab_size
            self.composition = SubwordEmbedding(tokens, config.embedding_dim)
            with torch.no_grad():  # the sum of both parts has the variance of a plain embedding
                for part in (self.weight, self.composition.weight):
                    part.mul_(0.5**0.5)

    def full_weight(self) -> Tensor:
        """Return the input embeddings of all tokens, subwords included, (V, E)."""
        if self.subword_mode is SubwordMode.none:
            return self.weight
        composed: Tensor = self.composition(self.weight)
        return composed

    def output_weight(self) -> Tensor | None:
        """Return ``full_weight`` if the output layer shares it and it has subwords, else None.

        It is computed from all tokens: call it once per step.
        """
        return self.full_weight() if self.subword_mode is SubwordMode.both else None

    def materialize(self, output: SoftmaxHead | None = None) -> None:
        """Replace the subwords by a plain embedding with the same values, for inference.

        An output layer that is tied to them gets the same matrix.
        """
        if self.subword_mode is SubwordMode.none:
            return
        self.weight = nn.Parameter(self.full_weight(), requires_grad=False)
        if output is not None and self.subword_mode is SubwordMode.both:
            output.weight = self.weight
        self.subword_mode, self.is_tied = SubwordMode.none, False
        del self.composition

    def embed(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return embeddings after embedding dropout, and the matrix for a tied output layer.

        Returns:
            The embeddings (..., E) of ids (...); the matrix (V, E) that a tied output layer must
            use in this step, or None if the output layer is not tied. No other operation may use
            the matrix, because its gradient is modified in place.
        """
        output_weight: Tensor | None = None
        if self.is_tied and self.subword_mode is not SubwordMode.input:
            embeddings, output_weight = _TiedLookup.apply(self.full_weight(), ids)  # type: ignore[no-untyped-call]
        elif self.subword_mode is SubwordMode.none:
            embeddings = F.embedding(ids, self.weight)
        elif ids.device.type == "cpu":
            distinct, inverse = torch.unique(ids, return_inverse=True)
            rows = F.embedding(distinct, self.weight) + self.composition.for_tokens(distinct)
            embeddings = F.embedding(inverse, rows)
        else:  # torch.unique would synchronize with the GPU
            embeddings = F.embedding(ids, self.full_weight())
        dropped = embedding_dropout(
            embeddings, ids, self.num_embeddings, self.dropout, self.training
        )
        return dropped, output_weight
