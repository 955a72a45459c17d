"""Linear features of tagging."""

from __future__ import annotations

import torch

from korlm.dataset.vocab import EOS_ID, PAD_ID, SPECIALS
from korlm.tasks.heads.linear_features import KINDS, TAGS, TOKENS, LinearFeatures
from korlm.tasks.morpheme_tags import NUM_FEATURES, TAG
from korlm.tokenizers.base import SPACE_SYMBOL

VOCAB = [*SPECIALS, SPACE_SYMBOL, *"가나다12ab.,"]
SPACE, GA, NA, DA, ONE, TWO = range(4, 10)


def features(dropout: float = 0.0, rank: int = 0, eojeols: bool = False) -> LinearFeatures:
    return LinearFeatures(VOCAB, 2, 1 << 22, dropout, rank, eojeols)


def tokens_of(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last tokens and counts of units that are tokens."""
    batch_size, num_tokens = ids.shape
    return torch.arange(num_tokens).expand(batch_size, -1), torch.full((batch_size,), num_tokens)


def with_tags(tags: list[list[int]]) -> torch.Tensor:
    morphemes = torch.zeros(len(tags), len(tags[0]), NUM_FEATURES, dtype=torch.int64)
    morphemes[..., TAG] = torch.tensor(tags)
    return morphemes


def test_each_feature_has_its_weights() -> None:
    linear = features()
    ids = torch.tensor([[GA, NA, SPACE, ONE, EOS_ID], [NA, NA, SPACE, TWO, EOS_ID]])
    tags = with_tags([[7, 7, 0, 8, 0], [7, 9, 0, 8, 0]])
    assert not linear(ids, *tokens_of(ids), tags).any()  # before training
    codes = linear.codes(ids, *tokens_of(ids), tags)
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
    tags = with_tags([[1, 2, 0, 0, 0], [1, 0, 2, 3, 0]])
    part = ids[:1, :3]
    longer = linear.codes(ids, *tokens_of(ids), tags)[:1, :3]
    assert torch.equal(longer, linear.codes(part, *tokens_of(part), tags[:1, :3]))
    scores = linear(ids, *tokens_of(ids))[:1, :3]
    assert torch.equal(linear(part, *tokens_of(part)), scores)


def test_eojeols_have_the_features_of_their_neighbors() -> None:
    linear = features(eojeols=True)
    # "가나 다 1", "다나 다 2"
    ids = torch.tensor([[GA, NA, SPACE, DA, SPACE, ONE], [DA, NA, SPACE, DA, SPACE, TWO]])
    last, counts = torch.tensor([[1, 3, 5]] * 2), torch.tensor([3, 3])
    morphemes = torch.arange(ids.numel() * NUM_FEATURES).view(*ids.shape, NUM_FEATURES)
    plain, codes = (linear.codes(ids, last, counts, m) for m in (None, morphemes))
    assert plain.shape[-1] < codes.shape[-1]
    assert all(len(row.unique()) == codes.shape[-1] for row in codes.flatten(0, 1))
    num_tokens = features().codes(ids, last, counts, None).shape[-1]
    same = (plain[0] == plain[1])[:, num_tokens:]  # (U, K)
    word, suffixes, prefixes = range(6), range(6, 11), range(11, 14)  # of one token
    # In turn: at distance -2, -1, 1, 2, -1 and 0, 0 and 1.
    assert same[1, word].tolist() == [True, False, False, True, False, False]
    assert same[0, suffixes].tolist() == [True, True, True, True, True]
    assert same[0, prefixes].tolist() == [True, False, True]
    # A row with two eojeols, padded: its third unit is none.
    short = linear.codes(ids[:1, :4], last[:1, :2], counts[:1] - 1, morphemes[:1, :4])
    ids = torch.where(torch.arange(6) < 4, ids, PAD_ID)
    longer = linear.codes(ids, last, counts - 1, morphemes)[:1, :2]
    assert torch.equal(longer, short)


def test_rank() -> None:
    linear = features(rank=3)
    ids = torch.tensor([[GA, NA, EOS_ID]])
    assert linear.table.weight.shape[1] == 3
    assert linear(ids, *tokens_of(ids)).shape == (1, 3, 2)
    assert not linear(ids, *tokens_of(ids)).any()
    linear(ids, *tokens_of(ids))[..., 0].sum().backward()
    assert linear.table.weight.grad is not None and linear.table.weight.grad.any()


def test_dropout_leaves_out_whole_features() -> None:
    linear = features(dropout=0.5)
    torch.nn.init.ones_(linear.table.weight)
    ids = torch.tensor([[GA, NA, EOS_ID]])
    units = tokens_of(ids)
    num = linear.codes(ids, *units, None).shape[-1]
    scores = linear(ids, *units)
    assert torch.equal(scores[..., 0], scores[..., 1])
    assert scores.min() > 0 and scores.max() < 2 * num and (scores % 2 == 0).all()
    linear.eval()
    assert (linear(ids, *units) == num).all()
