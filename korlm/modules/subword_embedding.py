"""Token embeddings that know how a token is spelt: E[w] + what its syllables and jamo say.

After Bojanowski et al. 2017 (fastText), who add up character n-grams, and Park et al. 2018, who add
jamo for Korean. Rare morphemes share what they have in common with frequent ones; what stands in no
vocabulary stays <unk>, since batches hold ids. Axes: V vocabulary, E embedding, U units.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.dataset.vocab import NUMBER, SPECIALS
from korlm.text.hangul import decompose
from korlm.utils import threads

INIT_RANGE = 0.2  # as output matrix a large spread would begin with sure and wrong predictions


def subwords_of(token: str) -> list[str]:
    """What a token is made of: characters, the jamo of syllables, pairs of neighbours.

    Jamo are conjoining ones, so that a letter at the beginning of a syllable is another unit than
    the same one at its end. Pairs reach over the edges, which tells the first and the last.

    >>> [unit for unit in subwords_of("간다") if unit in ("간", "ᄀ", "<간", "간다", "다>", "가")]
    ['간', 'ᄀ', '<간', '간다', '다>']
    """
    if token in SPECIALS or token == NUMBER:
        return []
    jamo = [jamo for char in token if char != decompose(char) for jamo in decompose(char)]
    pairs = [a + b for a, b in itertools.pairwise(f"<{token}>")]
    return [*token, *jamo, *pairs]


class _SubwordSum(torch.autograd.Function):
    """Weighted sums over lists of units, on top of what a token has of its own.

    The gradient is weighted sums over the lists turned round. PyTorch's own gradient of
    ``embedding_bag`` is much slower than its forward pass: for a vocabulary of 17,568 it took 30 ms
    where this takes 2, with the same result (2026-11-21).
    """

    @staticmethod
    def forward(
        ctx: Any, own: Tensor | None, weight: Tensor, lists: _Lists, transposed: _Lists
    ) -> Tensor:
        ctx.transposed = transposed
        sums = _weighted_bag_sum(weight, lists)
        return sums if own is None else sums.add_(own)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_own = grads[0] if ctx.needs_input_grad[0] else None
        return by_own, _weighted_bag_sum(grads[0].contiguous(), ctx.transposed), None, None


# Members of all lists in a row, where each list begins, how much each member counts.
_Lists = tuple[Tensor, Tensor, Tensor]


def _weighted_bag_sum(weight: Tensor, lists: _Lists) -> Tensor:
    """The weighted sum of each list's rows of ``weight``."""
    members, starts, shares = lists
    with threads.elementwise_threads(len(members) * weight.shape[1]):
        return F.embedding_bag(members, weight, starts, mode="sum", per_sample_weights=shares)


class SubwordEmbedding(nn.Module):
    """The sum of the embeddings of a token's units over the root of their number.

    So it spreads as one of them does, however long the token is. Units that stand in one token
    alone are left out: that token's own embedding says it all. The lists of units are buffers, and
    with them part of every checkpoint.

    Args:
        tokens: of all ids, in their order.
        embedding_dim: E.
    """

    units: Tensor
    sizes: Tensor
    starts: Tensor
    shares: Tensor
    token_of_subword: Tensor
    subword_offsets: Tensor
    owner_shares: Tensor

    def __init__(self, tokens: Sequence[str], embedding_dim: int) -> None:
        super().__init__()
        spelt = [subwords_of(token) for token in tokens]
        shared = Counter(unit for units in spelt for unit in set(units))
        ids: dict[str, int] = {}
        lists = [[ids.setdefault(u, len(ids)) for u in us if shared[u] > 1] for us in spelt]
        flat = list(itertools.chain.from_iterable(lists))
        self.register_buffer("units", torch.tensor(flat, dtype=torch.int64))
        self.register_buffer("sizes", torch.tensor([len(units) for units in lists]))
        self.weight = nn.Parameter(torch.empty(max(len(ids), 1), embedding_dim))
        nn.init.uniform_(self.weight, -INIT_RANGE, INIT_RANGE)

        # Where each token's list begins, and one over the root of its length for each unit in it.
        shares = torch.repeat_interleave(_scale(self.sizes, self.weight)[:, 0], self.sizes)
        self.register_buffer("starts", self.sizes.cumsum(0) - self.sizes, persistent=False)
        self.register_buffer("shares", shares, persistent=False)

        # The lists turned round: for each unit the tokens that have it, and where they begin.
        counts = torch.bincount(self.units, minlength=len(self.weight))
        token_of_subword = torch.repeat_interleave(torch.arange(len(lists)), self.sizes)
        order = torch.argsort(self.units, stable=True)
        self.register_buffer("token_of_subword", token_of_subword[order], persistent=False)
        self.register_buffer("subword_offsets", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("owner_shares", shares[order], persistent=False)

    def forward(self, own: Tensor | None = None) -> Tensor:
        """The composed parts of all ids, (V, E); 0 where there are no units.

        Args:
            own: (V, E), what the parts are added to.
        """
        lists = (self.units, self.starts, self.shares)
        transposed = (self.token_of_subword, self.subword_offsets, self.owner_shares)
        found: Tensor = _SubwordSum.apply(own, self.weight, lists, transposed)  # type: ignore[no-untyped-call]
        return found

    def for_tokens(self, rows: Tensor) -> Tensor:
        """The composed parts of some ids, int64 (N,) -> (N, E)."""
        starts, sizes = self.starts[rows], self.sizes[rows]
        # The places of each row's units in the one long list.
        shifts = torch.repeat_interleave(starts - (sizes.cumsum(0) - sizes), sizes)
        units = self.units[shifts + torch.arange(len(shifts), device=rows.device)]
        sums = F.embedding_bag(units, self.weight, sizes.cumsum(0) - sizes, mode="sum")
        return sums * _scale(sizes, sums)


def _scale(sizes: Tensor, like: Tensor) -> Tensor:
    """One over the root of each number of units, (N, 1)."""
    return sizes.clamp(min=1).to(like.dtype).rsqrt()[:, None]


class _TiedLookup(torch.autograd.Function):
    """Rows of a matrix, and the matrix itself for whoever needs it next.

    So both gradients arrive together, and that of the rows is added to that of the matrix where it
    lies. On its own it would be a second matrix of zeros with few rows in it: for a vocabulary of
    17,568 and 256 units 3 ms of a step of 125 (2026-11-21).
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(ids)
        return F.embedding(ids, matrix), matrix.view_as(matrix)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        by_rows, by_matrix = grads
        # The output layer made it for nobody else; zeros, if there was no output layer.
        return by_matrix.index_add_(0, ids.flatten(), by_rows.reshape(-1, by_rows.shape[-1])), None
