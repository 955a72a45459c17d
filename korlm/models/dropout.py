"""The kinds of dropout that recurrent language models use, each with its paper.

All of them scale what is kept by 1 / (1 - p), and none does anything outside training.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mask_like(reference: Tensor, p: float, *shape: int) -> Tensor:
    """A mask of 0 and 1 / (1 - p), of the reference's kind and of the given shape."""
    return reference.new_empty(shape).bernoulli_(1 - p).div_(1 - p)


def drop(x: Tensor, p: float, training: bool, variational: bool) -> Tensor:
    """Dropout of features of a sequence (T, B, F).

    Args:
        x: (T, B, F).
        p: share that becomes 0.
        training: whether to drop at all.
        variational: one mask for all timesteps (Gal and Ghahramani 2016); otherwise a fresh one for
            each (Zaremba et al. 2014).
    """
    if not training or p == 0:
        return x
    if not variational:
        return F.dropout(x, p, training=True)
    return x * mask_like(x, p, 1, x.shape[1], x.shape[2])


def drop_tokens(x: Tensor, ids: Tensor, vocab_size: int, p: float, training: bool) -> Tensor:
    """Embeddings with whole tokens dropped (Gal and Ghahramani 2016, section 4.2).

    A dropped token is dropped wherever it stands in the batch.

    Args:
        x: (T, B, E), the embeddings of ``ids``.
        ids: int64 (T, B).
        vocab_size: V.
        p: share of the V tokens that are dropped.
        training: whether to drop at all.
    """
    if not training or p == 0:
        return x
    return x * mask_like(x, p, vocab_size)[ids][..., None]


def drop_weight(weight: Tensor, p: float, training: bool) -> Tensor:
    """A hidden-to-hidden matrix with entries dropped (Wan et al. 2013; Merity et al. 2018)."""
    if not training or p == 0:
        return weight
    return F.dropout(weight, p, training=True)
