"""Linear features of tagging."""

from __future__ import annotations

import torch

from korlm.dataset.vocab import EOS_ID, PAD_ID, SPECIALS
from korlm.tasks.heads.linear_features import KINDS, TAGS, TOKENS, LinearFeatures
from korlm.tokenizers.base import SPACE_SYMBOL

VOCAB = [*SPECIALS, SPACE_SYMBOL, *"가나다12ab.,"]
SPACE, GA, NA, DA, ONE, TWO = range(4, 10)


def features(dropout: float = 0.0) -> LinearFeatures:
    return LinearFeatures(VOCAB, 2, 1 << 22, dropout)


def each(ids: torch.Tensor) -> torch.Tensor:
    """Return the last tokens of units that are tokens."""
    return torch.arange(ids.shape[1]).expand(len(ids), -1)


def test_each_feature_has_its_weights() -> None:
    linear = features()
    ids = torch.tensor([[GA, NA, SPACE, ONE, EOS_ID], [NA, NA, SPACE, TWO, EOS_ID]])
    tags = torch.tensor([[7, 7, 0, 8, 0], [7, 9, 0, 8, 0]])
    assert not linear(ids, each(ids), tags).any()  # before training
    codes = linear.codes(ids, each(ids), tags)
    assert codes.shape[-1] == len(TOKENS) + len(KINDS) + len(TAGS) + 4
    assert len(codes[0, 0].unique()) == codes.shape[-1]
    same = codes[0] == codes[1]  # (T, K)
    names = [*TOKENS, *(("kind", *k) for k in KINDS), *(("tag", *k) for k in TAGS)]
    names += ["before", "after", "word", "token and tag"]
    at_one = {name for name, equal in zip(names, same[1].tolist(), strict=True) if equal}
    assert {(0,), (1,), (0, 1), ("kind", 2), ("kind", -1, 0, 1), ("tag", -1)} <= at_one
    assert not {(-1,), (2,), (-1, 0), (0, 1, 2), ("tag", 0), "before", "word"} & at_one
    assert "after" in at_one and "token and tag" not in at_one
    assert codes[0, 0, names.index("after")] != codes[0, 1, names.index("after")]


def test_padding_changes_nothing() -> None:
    linear = features()
    torch.nn.init.normal_(linear.table.weight)
    ids = torch.tensor([[GA, NA, EOS_ID, PAD_ID, PAD_ID], [GA, SPACE, NA, DA, EOS_ID]])
    tags = torch.tensor([[1, 2, 0, 0, 0], [1, 0, 2, 3, 0]])
    part = ids[:1, :3]
    longer = linear.codes(ids, each(ids), tags)[:1, :3]
    assert torch.equal(longer, linear.codes(part, each(part), tags[:1, :3]))
    scores = linear(ids, each(ids))[:1, :3]
    assert torch.equal(linear(part, each(part)), scores)


def test_dropout_leaves_out_whole_features() -> None:
    linear = features(dropout=0.5)
    torch.nn.init.ones_(linear.table.weight)
    ids = torch.tensor([[GA, NA, EOS_ID]])
    units = each(ids)
    num = linear.codes(ids, units, None).shape[-1]
    scores = linear(ids, units)
    assert torch.equal(scores[..., 0], scores[..., 1])
    assert scores.min() > 0 and scores.max() < 2 * num and (scores % 2 == 0).all()
    linear.eval()
    assert (linear(ids, units) == num).all()
