"""Subword embeddings against a loop over subwords, and their use in models."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest
import torch
from model_cases import SIZES, TOKENS, VOCAB_SIZE, make_config, make_model
from torch import Tensor, nn

from korlm.config import LSTMConfig, SubwordMode
from korlm.dataset.vocab import NUMBER, SPECIALS
from korlm.models.registry import build_model
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.subword_embedding import INIT_RANGE, SubwordEmbedding, subwords_of
from korlm.utils.errors import ConfigError

E = 5


def by_loop(composition: SubwordEmbedding, tokens: list[str]) -> Tensor:
    """Return the sum of each token's shared subwords, divided by sqrt of their number."""
    shared = Counter(unit for token in tokens for unit in set(subwords_of(token)))
    kept = [[u for u in subwords_of(token) if shared[u] > 1] for token in tokens]
    ids: dict[str, int] = {}
    for unit in (unit for units in kept for unit in units):
        ids.setdefault(unit, len(ids))
    rows = []
    for units in kept:
        total = torch.zeros(composition.weight.shape[1], dtype=composition.weight.dtype)
        for unit in units:
            total = total + composition.weight[ids[unit]] / len(units) ** 0.5
        rows.append(total)
    return torch.stack(rows)


def test_subwords_of() -> None:
    jamo = list(unicodedata.normalize("NFD", "간다"))
    assert subwords_of("간다") == ["간", "다", *jamo, "<간", "간다", "다>"]
    assert subwords_of("ㅋa") == ["ㅋ", "a", "<ㅋ", "ㅋa", "a>"]
    assert set(subwords_of("각")) & set(subwords_of("가")) == {"ᄀ", "ᅡ"}
    assert "\u11a8" in subwords_of("각")


@pytest.mark.parametrize("token", [*SPECIALS, NUMBER])
def test_special_tokens_have_no_subwords(token: str) -> None:
    assert subwords_of(token) == []
    composition = SubwordEmbedding([*TOKENS, NUMBER], E)
    row = [*TOKENS, NUMBER].index(token)
    assert not composition()[row].any()


def test_equals_a_loop() -> None:
    composition = SubwordEmbedding(TOKENS, E)
    torch.testing.assert_close(composition(), by_loop(composition, TOKENS))


@pytest.mark.parametrize("rows", [[], [4], [0, 0], [10, 4, 4, 0, 9, 7], list(range(VOCAB_SIZE))])
def test_for_tokens_equals_rows_of_all(rows: list[int]) -> None:
    composition = SubwordEmbedding(TOKENS, E)
    result = composition.for_tokens(torch.tensor(rows, dtype=torch.int64))
    assert result.shape == (len(rows), E)
    torch.testing.assert_close(result, composition()[rows])


def test_gradient_equals_a_loop() -> None:
    """All tokens, with the custom backward, and single tokens; weighted randomly."""
    composition = SubwordEmbedding(TOKENS, E)
    weigh = torch.randn(VOCAB_SIZE, E, generator=torch.Generator().manual_seed(3))
    (expected,) = torch.autograd.grad(
        (by_loop(composition, TOKENS) * weigh).sum(), composition.weight
    )
    for actual in (composition(), composition.for_tokens(torch.arange(VOCAB_SIZE))):
        (gradient,) = torch.autograd.grad((actual * weigh).sum(), composition.weight)
        torch.testing.assert_close(gradient, expected)


def test_tokens_without_shared_subwords() -> None:
    composition = SubwordEmbedding([*SPECIALS, "a", "b"], E)
    assert not composition().any()
    composition().sum().backward()
    assert composition.weight.grad is not None and not composition.weight.grad.any()


def embedding(spelling: SubwordMode, seed: int = 1, **options: object) -> TokenEmbedding:
    torch.manual_seed(seed)
    config = make_config("lstm", **{**SIZES, "subword_embedding": spelling, **options})
    return TokenEmbedding(config, VOCAB_SIZE, TOKENS)


def test_mode_none_is_a_plain_embedding() -> None:
    result = embedding(SubwordMode.none)
    torch.manual_seed(1)
    plain = nn.Embedding(VOCAB_SIZE, E)
    nn.init.uniform_(plain.weight, -INIT_RANGE, INIT_RANGE)
    assert torch.equal(result.weight, plain.weight)
    assert list(result.state_dict()) == ["weight"]
    assert result.output_weight() is None
    ids = torch.tensor([[4, 0], [7, 4]])
    assert torch.equal(result.embed(ids)[0], plain(ids))


def test_input_and_both_embed_equally() -> None:
    one, both = embedding(SubwordMode.input), embedding(SubwordMode.both)
    ids = torch.tensor([[4, 0, 8], [7, 4, 10]])
    expected = (one.weight + by_loop(one.composition, TOKENS))[ids]
    torch.testing.assert_close(one.embed(ids)[0], expected)
    matrix = both.output_weight()
    assert one.output_weight() is None
    assert matrix is not None
    torch.testing.assert_close(matrix, both.weight + both.composition())
    torch.testing.assert_close(both.embed(ids)[0], expected)


@pytest.mark.parametrize("spelling", [SubwordMode.none, SubwordMode.both])
def test_tied_gradients_add_up(spelling: SubwordMode) -> None:
    """The gradients equal those of a matrix used twice; one id occurs twice."""
    model = embedding(spelling)
    ids = torch.tensor([[4, 0, 8], [7, 4, 10]])
    hidden, weigh = torch.randn(2, E), torch.randn(2, 3, E)
    for used in ("both", "rows", "matrix"):
        results = []
        for together in (True, False):
            if together:
                result, matrix = model.embed(ids)
            else:
                whole = model.output_weight()
                matrix = model.weight if whole is None else whole
                result = matrix[ids]
            assert matrix is not None
            losses = {"rows": (result * weigh).sum(), "matrix": (hidden @ matrix.t()).exp().sum()}
            loss = sum(losses.values()) if used == "both" else losses[used]
            results.append(torch.autograd.grad(loss, list(model.parameters())))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other)


def test_initial_variance_equals_a_plain_embedding() -> None:
    tokens = [*SPECIALS, *("".join(map(chr, (44032 + i, 45032 + i % 40))) for i in range(2000))]
    config = LSTMConfig(name="lstm", subword_embedding=SubwordMode.both)
    result = TokenEmbedding(config, len(tokens), tokens).output_weight()
    assert result is not None
    plain = INIT_RANGE / 3**0.5
    assert result[4:].std().item() == pytest.approx(plain, rel=0.05)


def test_embedding_dropout_drops_whole_tokens() -> None:
    torch.manual_seed(1)
    ids = torch.arange(4, VOCAB_SIZE).repeat(30)
    for spelling in (SubwordMode.input, SubwordMode.both):
        model = embedding(spelling, embedding_dropout=0.5)
        read = model.embed(ids)[0].view(30, -1, E)
        assert torch.equal(read, read[:1].expand_as(read))  # one mask for all positions
        dropped = (read[0] == 0).all(-1)
        assert 0 < dropped.sum() < len(dropped)
        model.eval()
        assert model.embed(ids)[0].abs().sum(-1).min() > 0


@pytest.mark.parametrize("kind", ["lstm", "window"])
def test_output_layer_has_subwords_in_mode_both_only(kind: str) -> None:
    """The subwords of an output token get a gradient only if the output layer has them."""
    inputs = torch.tensor([[9, 9]])
    targets = torch.tensor([[9, 9]])
    for spelling, reaches in ((SubwordMode.input, False), (SubwordMode.both, True)):
        option = "spelling" if kind == "window" else "spelling_both"
        model = make_model(kind, option, subword_embedding=spelling)
        model.training_loss(inputs, targets).nll.backward()
        result = model.get_submodule("embedding.composition").get_parameter("weight").grad
        assert result is not None
        assert bool(result.any()) == reaches


def test_settings() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.subword_embedding=both: needs model\.tie_weights=true"
    ):
        LSTMConfig(name="lstm", subword_embedding=SubwordMode.both, tie_weights=False)
    config = LSTMConfig(
        name="lstm", subword_embedding=SubwordMode.input, tie_weights=False, embedding_dim=4
    )
    assert build_model(config, VOCAB_SIZE, TOKENS).vocab_size == VOCAB_SIZE
