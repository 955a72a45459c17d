"""Linear features of tagging, as linear-chain CRFs have them (Lafferty, McCallum and Pereira 2001).

``LinearFeatures.codes`` lists the features.

Axes: B batch, T tokens, U units (tokens or eojeols), K features of a unit, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.dataset.vocab import PAD_ID, SPECIALS, UNK
from korlm.modules.dropout import dropout_mask
from korlm.text.hangul import is_syllable
from korlm.tokenizers.base import SPACE_SYMBOL

# Odd multiplier and prime below 2^31: a product of two residues fits into int64.
MULTIPLIER, PRIME = 1_000_003, (1 << 31) - 1

# Positions of the tokens of each feature, relative to the token.
TOKENS = (
    *((k,) for k in range(-3, 4)),
    *((k, k + 1) for k in range(-2, 2)),
    *((k, k + 1, k + 2) for k in range(-2, 1)),
)
KINDS = (*((k,) for k in range(-2, 3)), (-1, 0, 1))  # of kinds of characters
TAGS = (*((k,) for k in range(-2, 3)), (-1, 0), (0, 1))  # of part-of-speech tags
MAX_WORD_TOKENS = 8  # maximum number of tokens of an eojeol before a token, and from it on


def hash_ids(code: Tensor, ids: Tensor) -> Tensor:
    """Return the hashes of sequences with one more id, from their hashes without it."""
    return (code * MULTIPLIER + ids) % PRIME


class LinearFeatures(nn.Module):
    """A weight for each label and each feature of a unit; the score of a label is their sum.

    Features are tokens, pairs and triples of tokens, kinds of characters, parts of the eojeol, and
    part-of-speech tags, within three tokens of the last one of the unit. A hash assigns each to one
    of ``num_buckets`` rows of weights. They start at 0, so a feature that training has not seen has
    no effect, unless it shares a row. ``dropout`` leaves out features in training.
    """

    kinds: Tensor

    def __init__(
        self, tokens: Sequence[str], num_labels: int, num_buckets: int, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.table = nn.Embedding(num_buckets, num_labels)
        nn.init.zeros_(self.table.weight)
        kinds = torch.tensor([_kind(token) for token in tokens])
        self.register_buffer("kinds", kinds, persistent=False)

    def codes(self, ids: Tensor, last: Tensor, tags: Tensor | None) -> Tensor:
        """Return the rows of weights of the features, int64 (B, U, K).

        Args:
            ids: int64 (B, T), ``PAD_ID`` after the end of a row.
            last: int64 (B, U), index of the last token of each unit.
            tags: int64 (B, T), or None.
        """
        kinds = self.kinds[ids]
        parts = [(ids, TOKENS), (kinds, KINDS)] + ([] if tags is None else [(tags, TAGS)])
        features: list[Tensor] = []
        for values, templates in parts:
            for distances in templates:
                code = torch.full_like(ids, len(features))
                for distance in distances:
                    code = hash_ids(code, shifted(values, distance))
                features.append(code)
        blank = kinds == 0
        before = _word_code(ids, blank, [-k for k in range(1, MAX_WORD_TOKENS + 1)], len(features))
        after = _word_code(ids, blank, list(range(MAX_WORD_TOKENS)), len(features) + 1)
        features += [before, after, hash_ids(before, after)]
        if tags is not None:
            features.append(hash_ids(hash_ids(torch.full_like(ids, len(features)), ids), tags))
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        return torch.stack(features, -1)[rows, last] % self.table.num_embeddings

    def forward(self, ids: Tensor, last: Tensor, tags: Tensor | None = None) -> Tensor:
        """Return the scores of the labels, (B, U, L); arguments as in ``codes``."""
        weights: Tensor = self.table(self.codes(ids, last, tags))  # (B, U, K, L)
        if self.training and self.dropout:
            weights = weights * dropout_mask(weights, self.dropout, *weights.shape[:3], 1)
        return weights.sum(2)


def _word_code(ids: Tensor, blank: Tensor, distances: Sequence[int], code: int) -> Tensor:
    """Return a hash of the tokens at these distances, up to the first blank."""
    result = torch.full_like(ids, code)
    inside = torch.ones_like(blank)
    for distance in distances:
        inside = inside & ~shifted(blank, distance, fill=True)
        result = torch.where(inside, hash_ids(result, shifted(ids, distance)), result)
    return result


def shifted(values: Tensor, distance: int, fill: int = PAD_ID) -> Tensor:
    """Return for each token the value of the token at a distance from it, (B, T).

    >>> shifted(torch.tensor([[5, 6, 7]]), 1).tolist(), shifted(torch.tensor([[5, 6]]), -3).tolist()
    ([[6, 7, 0]], [[0, 0]])
    """
    size = values.shape[1]
    padded = F.pad(values, (max(-distance, 0), max(distance, 0)), value=fill)
    return padded[:, max(distance, 0) :][:, :size]


def _kind(token: str) -> int:
    """Return the kind of a token: blank, Hangul, digit, other letter, ASCII sign or other."""
    if token == SPACE_SYMBOL or (token in SPECIALS and token != UNK):
        return 0
    char = token[-1]
    tests = (is_syllable(char), char.isdigit(), char.isalpha(), char.isascii())
    return 1 + (tests.index(True) if True in tests else len(tests))
