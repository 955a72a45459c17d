"""The window model equals equation 1 of Bengio et al. 2003, position by position."""

from __future__ import annotations

import pytest
import torch
from model_cases import VOCAB_SIZE, WINDOW, make_config, make_model, scatter
from torch import Tensor

from korlm.config import WindowConfig
from korlm.models.feedforward import WindowLM
from korlm.utils.errors import ConfigError

B, T = 3, 6


def make(**options: object) -> WindowLM:
    model = WindowLM(make_config("window", **{**WINDOW, **options}), VOCAB_SIZE)
    scatter(model)
    return model.eval()


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(1, VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(seed))


def by_the_paper(model: WindowLM, history: list[int]) -> Tensor:
    """Return the softmax of y = b + W x + U tanh(d + H x) after a history."""
    config = model.config
    seen = ([0] * config.window + history)[-config.window :]
    x = torch.cat([model.embedding.weight[i] for i in seen])
    both = model.output.weight  # [U, W]
    if model.projection is not None:
        both = model.embedding.weight @ model.projection.weight  # C [P, D]
    U, W = both[:, : config.hidden_dim], both[:, config.hidden_dim :]
    y = model.output.bias + U @ torch.tanh(model.hidden_layer.bias + model.hidden_layer.weight @ x)
    assert W.shape[1] == (len(x) if config.direct_connections else 0)
    return (y + W @ x if config.direct_connections else y).log_softmax(0)


@pytest.mark.parametrize("window", [1, 2, 4, 9])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("direct", [False, True], ids=["no_direct", "direct"])
def test_equals_the_papers_equation(window: int, tied: bool, direct: bool) -> None:
    model = make(window=window, tie_weights=tied, direct_connections=direct)
    inputs = ids(B, T)
    actual, state = model.log_probs(inputs[:, :4])
    rest, _ = model.log_probs(inputs[:, 4:], state)
    actual = torch.cat([actual, rest], 1)
    for b in range(B):
        for t in range(T):
            expected = by_the_paper(model, inputs[b, : t + 1].tolist())
            torch.testing.assert_close(actual[b, t], expected, atol=2e-6, rtol=2e-5)


def test_the_state_is_the_last_ids() -> None:
    model = make(window=4)
    inputs = ids(B, T)
    assert torch.equal(model.initial_state(B)[0], torch.zeros(B, 3, dtype=torch.int64))
    (state,) = model.log_probs(inputs)[1]
    assert torch.equal(state, inputs[:, -3:])
    (state,) = model.log_probs(inputs, None, torch.tensor([6, 4, 1]))[1]
    assert state.tolist() == [
        inputs[0, 3:6].tolist(),
        inputs[1, 1:4].tolist(),
        [0, 0, int(inputs[2, 0])],
    ]


def test_padding_embedding_is_learned() -> None:
    """<pad> before the text is the only source of gradients of its embedding."""
    model = make(window=3, tie_weights=False)
    inputs, targets = ids(B, T), ids(B, T, seed=1)
    model.training_loss(inputs, targets).nll.backward()
    grad = model.embedding.weight.grad
    assert grad is not None and grad[0].abs().max() > 1e-4
    model.zero_grad()
    model.training_loss(inputs, targets, (ids(B, 2, seed=2),)).nll.backward()
    grad = model.embedding.weight.grad
    assert grad is not None and not grad[0].any()


DROPOUTS = ["embedding_dropout", "input_dropout", "hidden_dropout", "output_dropout"]


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropouts_act_in_training_only(name: str) -> None:
    model = make(**{name: 0.5})
    inputs, plain = ids(B, T), make().log_probs(ids(B, T))[0]
    assert torch.equal(model.log_probs(inputs)[0], plain)
    torch.manual_seed(1)
    model.train()
    assert not torch.allclose(model.log_probs(inputs)[0], plain, atol=1e-3)


def test_settings() -> None:
    with pytest.raises(ConfigError, match=r"model\.window=0: must be in \[1, 4096\]"):
        WindowConfig(name="window", window=0)
    with pytest.raises(ConfigError, match=r"model\.hidden_dropout=0\.5: needs model\.tie_weights"):
        WindowConfig(name="window", hidden_dropout=0.5, tie_weights=False)


def test_checkpoints_with_old_layer_names() -> None:
    model, other = make_model("window", "tied"), make_model("window", "tied", seed=2)
    old = {"hidden_layer": "tanh_layer", "projection": "onto_embedding"}
    state = {
        ".".join(old.get(part, part) for part in name.split(".")): value
        for name, value in model.state_dict().items()
    }
    assert state.keys() != model.state_dict().keys()
    other.load_state_dict(state)
    inputs = ids(2, 5)
    assert torch.equal(other.log_probs(inputs)[0], model.log_probs(inputs)[0])
