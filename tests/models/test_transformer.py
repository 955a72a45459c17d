"""The Transformer equals a loop over tokens, heads and positions, with absolute positions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from model_cases import TRANSFORMER, VOCAB_SIZE, make_config, make_model, scatter
from torch import Tensor

from korlm.models import transformer
from korlm.models.transformer import EPS, ROTARY_BASE, TransformerLayer, TransformerLM
from korlm.utils.errors import ConfigError

B = 3


def make(**options: object) -> TransformerLM:
    model = TransformerLM(make_config("transformer", **{**TRANSFORMER, **options}), VOCAB_SIZE)
    scatter(model)
    return model.eval()


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(1, VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(seed))


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean() + EPS).sqrt() * weight


def rotated(x: Tensor, position: int) -> Tensor:
    """Rotate the features of one head, (d,)."""
    half = len(x) // 2
    out = x.clone()
    for i in range(half):
        angle = position * ROTARY_BASE ** (-2 * i / len(x))
        cos, sin = math.cos(angle), math.sin(angle)
        out[i] = x[i] * cos - x[i + half] * sin
        out[i + half] = x[i] * sin + x[i + half] * cos
    return out


def layer_by_loops(layer: TransformerLayer, rows: list[Tensor], window: int) -> list[Tensor]:
    """Return the outputs (D,) of a layer for its inputs (D,) since the beginning of the text."""
    heads = layer.num_heads
    normed = [rms_norm(x, layer.attention_norm.weight) for x in rows]
    q, k, v = zip(*[(layer.qkv.weight @ x).view(3, heads, -1) for x in normed], strict=True)
    outputs = []
    for t, x in enumerate(rows):
        attended = []
        for head in range(heads):
            seen = range(max(0, t - window + 1), t + 1)
            query = rotated(q[t][head], t)
            scores = torch.stack([query @ rotated(k[s][head], s) for s in seen])
            weights = (scores / math.sqrt(len(query))).softmax(0)
            attended.append(sum(w * v[s][head] for w, s in zip(weights, seen, strict=True)))
        x = x + layer.attention_output.weight @ torch.cat(attended)
        normed_x = rms_norm(x, layer.feedforward_norm.weight)
        gate, up = (layer.gate_up.weight @ normed_x).chunk(2)
        outputs.append(x + layer.down.weight @ (F.silu(gate) * up))
    return outputs


def by_loops(model: TransformerLM, text: list[int]) -> Tensor:
    """Return the log-probabilities after each token of a text, (T, V)."""
    rows = [model.embedding.weight[i] for i in text]
    for layer in model.layers:
        assert isinstance(layer, TransformerLayer)
        rows = layer_by_loops(layer, rows, model.config.window)
    hidden = torch.stack([rms_norm(x, model.norm.weight) for x in rows])
    return (hidden @ model.output.weight.T + model.output.bias).log_softmax(-1)


@pytest.mark.parametrize("window", [2, 4, 20])
def test_equals_loops(window: int) -> None:
    model, inputs = make(window=window), ids(B, 9)
    parts, state = [], model.initial_state(B)
    for part in inputs.split([5, 1, 3], 1):
        log_probs, state = model.log_probs(part, state)
        parts.append(log_probs)
    expected = torch.stack([by_loops(model, row.tolist()) for row in inputs])
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=5e-6, rtol=2e-5)


def test_a_text_in_one_piece_equals_a_text_token_by_token() -> None:
    """The text is longer than several blocks of attention."""
    model = make(window=6)
    inputs = ids(2, 2 * model.block + 5)
    at_once, after = model.log_probs(inputs)
    state = model.initial_state(2)
    for t, column in enumerate(inputs.unbind(1)):
        log_probs, state = model.step(column, state)
        torch.testing.assert_close(log_probs, at_once[:, t], atol=5e-6, rtol=2e-5)
    for one, other in zip(state, after, strict=True):
        torch.testing.assert_close(one, other, atol=5e-6, rtol=2e-5)


@pytest.mark.parametrize("block", [1, 3, 7])
def test_the_size_of_blocks_does_not_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = make(window=3).log_probs(ids(B, 7))
    monkeypatch.setattr(transformer, "MIN_BLOCK", block)
    actual, _ = make(window=3).log_probs(ids(B, 7))
    torch.testing.assert_close(actual, expected, atol=5e-6, rtol=2e-5)


def test_an_empty_memory_has_no_effect() -> None:
    """The keys and values of its empty part are never read."""
    model, inputs = make(), ids(B, 5)
    size, *memories = model.initial_state(B)
    noise = (size, *(torch.full_like(memory, 3.0) for memory in memories))
    torch.testing.assert_close(
        model.log_probs(inputs, noise)[0], model.log_probs(inputs)[0], rtol=0, atol=0
    )


def test_muon_splits_stacked_matrices() -> None:
    model = make_model("transformer", "tied")
    assert isinstance(model, TransformerLM)
    shapes = [(weight.shape[0] // parts, weight.shape[1]) for weight, parts in model.muon_weights()]
    assert shapes == 2 * [(8, 8), (8, 8), (7, 8), (8, 7)]


def test_heads_must_divide_the_embedding() -> None:
    with pytest.raises(ConfigError, match=r"model\.embedding_dim=12: must be a multiple of 8"):
        make_config("transformer", embedding_dim=12, num_heads=4)


def test_dropout_acts_in_training_only() -> None:
    model = make(hidden_dropout=0.5)
    expected, _ = model.log_probs(ids(B, 5))
    torch.testing.assert_close(model.log_probs(ids(B, 5))[0], expected, rtol=0, atol=0)
    actual, _ = model.train().log_probs(ids(B, 5))
    assert not torch.allclose(actual, expected, atol=1e-3)
