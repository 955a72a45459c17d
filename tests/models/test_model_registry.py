"""``build_model`` passes tokens, counts and settings to all models."""

from __future__ import annotations

import pytest
import torch
from model_cases import KINDS, NETWORKS, TOKENS, VOCAB_SIZE, make_config, options_of

from korlm.config import OutputBias, Softmax
from korlm.models.neural import NeuralLM
from korlm.models.registry import build_model

COUNTS = [2 * number for number in range(VOCAB_SIZE)]


def build(kind: str, bias: OutputBias, counts: list[int] | None, **options: object) -> NeuralLM:
    torch.manual_seed(1)
    config = make_config(kind, output_bias=bias, **options)
    model = build_model(config, VOCAB_SIZE, TOKENS, counts)
    assert isinstance(model, NeuralLM)
    return model


@pytest.mark.parametrize("softmax", Softmax)
@pytest.mark.parametrize("kind", NETWORKS)
def test_output_bias_unigram(kind: str, softmax: Softmax) -> None:
    cutoffs = [4, 9]
    model = build(kind, OutputBias.unigram, COUNTS, softmax=softmax, cutoffs=cutoffs)
    model.output.weight.data.zero_()
    if softmax is Softmax.adaptive:
        model.output.get_parameter("gates").data.zero_()
    result = model.log_probs(torch.tensor([[5, 3]]))[0].exp()
    shares = (torch.tensor(COUNTS) + 0.5) / (sum(COUNTS) + VOCAB_SIZE / 2)
    torch.testing.assert_close(result, shares.expand(1, 2, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_no_model_has_fewer_weights_than_the_bound(kind: str) -> None:
    """A file with fewer weights is refused before a model is built."""
    for options in options_of(kind).values():
        config = make_config(kind, **options)
        model = build_model(config, VOCAB_SIZE, TOKENS)
        numbers = sum(part.numel() for part in model.state_dict().values())
        assert (kind in NETWORKS) <= config.min_parameters(VOCAB_SIZE) <= numbers


def test_output_bias_changes_nothing_else() -> None:
    """Random numbers are the same, and weights that are loaded from a file are not changed."""
    plain = build("lstm", OutputBias.zero, COUNTS).state_dict()
    other = build("lstm", OutputBias.unigram, COUNTS).state_dict()
    restored = build("lstm", OutputBias.unigram, None).state_dict()
    differ = {name for name in plain if not torch.equal(plain[name], other[name])}
    assert differ == {"output.bias"}
    assert all(torch.equal(plain[name], restored[name]) for name in plain)
