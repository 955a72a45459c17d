"""Compute the embeddings of tokens from their subwords: characters, jamo and character pairs.

After fastText (Bojanowski et al. 2017, character n-grams) and Park et al. 2018 (jamo for Korean).
Rare morphemes share subwords with frequent ones. A token outside the vocabulary is still <unk>,
since batches hold ids, not text.

Axes: V vocabulary, E embedding, S distinct subwords, M sum of the tokens' numbers of subwords.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.dataset.vocab import NUMBER, SPECIALS
from korlm.text.hangul import decompose
from korlm.utils import threads

# Bound of the initial values. With tied output weights, larger ones would make the first
# predictions confidently wrong.
INIT_RANGE = 0.2


def subwords_of(token: str) -> list[str]:
    """Return the subwords of a token: its characters, the jamo of its syllables, character pairs.

    Jamo are conjoining code points, so an initial consonant differs from the same final consonant.
    Pairs include the word boundaries < and >. Special tokens have no subwords.

    >>> [unit for unit in subwords_of("간다") if unit in ("간", "ᄀ", "<간", "간다", "다>", "가")]
    ['간', 'ᄀ', '<간', '간다', '다>']
    """
    if token in SPECIALS or token == NUMBER:
        return []
    jamo = [jamo for char in token if char != decompose(char) for jamo in decompose(char)]
    pairs = [a + b for a, b in itertools.pairwise(f"<{token}>")]
    return [*token, *jamo, *pairs]


class _Bags(NamedTuple):
    """Bags of row indices in CSR form, as ``F.embedding_bag`` takes them.

    Attributes:
        indices: int64 (M,), the members of all bags, one bag after the other.
        offsets: int64 (number of bags,), where each bag starts in ``indices``.
        weights: float (M,), the weight of each member.
    """

    indices: Tensor
    offsets: Tensor
    weights: Tensor


def _weighted_bag_sum(rows: Tensor, bags: _Bags) -> Tensor:
    """Return the weighted sum of ``rows`` (N, E) over each bag, (number of bags, E)."""
    with threads.elementwise_threads(len(bags.indices) * rows.shape[1]):
        return F.embedding_bag(
            bags.indices, rows, bags.offsets, mode="sum", per_sample_weights=bags.weights
        )


class _SubwordSum(torch.autograd.Function):
    """``base`` + the weighted sum of each token's subword vectors.

    The backward pass is the same weighted bag sum over the transposed index (subword -> tokens).
    PyTorch's backward of ``embedding_bag`` computes the same gradient, but takes 15 times as long
    (measured in korlm/modules/README.md).
    """

    @staticmethod
    def forward(
        ctx: Any, base: Tensor | None, weight: Tensor, bags: _Bags, transposed: _Bags
    ) -> Tensor:
        ctx.transposed = transposed
        sums = _weighted_bag_sum(weight, bags)
        return sums if base is None else sums.add_(base)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_base = grads[0] if ctx.needs_input_grad[0] else None
        grad_weight = _weighted_bag_sum(grads[0].contiguous(), ctx.transposed)
        return grad_base, grad_weight, None, None


class SubwordEmbedding(nn.Module):
    """The sum of a token's n subword vectors, divided by sqrt(n).

    Dividing by sqrt(n) makes the variance independent of n. A subword that occurs in a single token
    is left out, since that token has an embedding of its own. ``units`` and ``sizes``, which
    subwords each token has, are part of the checkpoint; the other buffers are computed from them.

    Args:
        tokens: the V tokens, in the order of their ids.
        embedding_dim: E.
    """

    units: Tensor  # int64 (M,), subword ids of all tokens, token by token
    sizes: Tensor  # int64 (V,), number of subwords of each token
    offsets: Tensor  # int64 (V,), where each token starts in units
    unit_weights: Tensor  # float (M,), 1 / sqrt(n) of the token of each unit
    # The transposed index: ids of the tokens with subword 0, with subword 1, ...
    token_of_subword: Tensor  # int64 (M,)
    subword_offsets: Tensor  # int64 (S,), where each subword starts in token_of_subword
    token_weights: Tensor  # float (M,), 1 / sqrt(n) of each token in token_of_subword

    def __init__(self, tokens: Sequence[str], embedding_dim: int) -> None:
        super().__init__()
        subwords = [subwords_of(token) for token in tokens]
        num_tokens_with = Counter(unit for units in subwords for unit in set(units))
        ids: dict[str, int] = {}
        lists = [
            [ids.setdefault(unit, len(ids)) for unit in units if num_tokens_with[unit] > 1]
            for units in subwords
        ]
        flat = list(itertools.chain.from_iterable(lists))
        self.register_buffer("units", torch.tensor(flat, dtype=torch.int64))
        self.register_buffer("sizes", torch.tensor([len(units) for units in lists]))
        self.weight = nn.Parameter(torch.empty(max(len(ids), 1), embedding_dim))  # (S, E)
        nn.init.uniform_(self.weight, -INIT_RANGE, INIT_RANGE)

        weights = torch.repeat_interleave(_inverse_sqrt(self.sizes, self.weight)[:, 0], self.sizes)
        self.register_buffer("offsets", self.sizes.cumsum(0) - self.sizes, persistent=False)
        self.register_buffer("unit_weights", weights, persistent=False)

        counts = torch.bincount(self.units, minlength=len(self.weight))
        owners = torch.repeat_interleave(torch.arange(len(lists)), self.sizes)
        order = torch.argsort(self.units, stable=True)
        self.register_buffer("token_of_subword", owners[order], persistent=False)
        self.register_buffer("subword_offsets", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("token_weights", weights[order], persistent=False)

    def forward(self, base: Tensor | None = None) -> Tensor:
        """Return the subword sums of all tokens (V, E), added to ``base`` (V, E) if given."""
        bags = _Bags(self.units, self.offsets, self.unit_weights)
        transposed = _Bags(self.token_of_subword, self.subword_offsets, self.token_weights)
        sums: Tensor = _SubwordSum.apply(base, self.weight, bags, transposed)  # type: ignore[no-untyped-call]
        return sums

    def for_tokens(self, ids: Tensor) -> Tensor:
        """Return the subword sums (N, E) of some tokens, given their ids, int64 (N,)."""
        sizes = self.sizes[ids]
        starts = sizes.cumsum(0) - sizes
        # The subwords of row i are units[offsets[ids[i]]:][:sizes[i]]; join those of all rows.
        shifts = torch.repeat_interleave(self.offsets[ids] - starts, sizes)
        units = self.units[shifts + torch.arange(len(shifts), device=ids.device)]
        sums = F.embedding_bag(units, self.weight, starts, mode="sum")
        return sums * _inverse_sqrt(sizes, sums)


def _inverse_sqrt(sizes: Tensor, like: Tensor) -> Tensor:
    """Return 1 / sqrt(sizes), (N, 1), in the dtype of ``like``; 1 where a size is 0."""
    return sizes.clamp(min=1).to(like.dtype).rsqrt()[:, None]
