"""Recurrent layers against PyTorch's, and their options against formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from model_cases import CELLS, make_config, scatter
from torch import Tensor, nn
from torch_rnn import run_torch, torch_module

from korlm.config import InitialState
from korlm.modules import rnn
from korlm.modules.dropout import weight_dropout
from korlm.modules.rnn import RecurrentLayer, cell_of, flatten_weights

T, B, I, H = 6, 4, 5, 7  # noqa: E741
LENGTHS = torch.tensor([3, 6, 1, 4])
CLOSE = {"atol": 2e-6, "rtol": 2e-5}
BACK_CLOSE = {"atol": 1e-5, "rtol": 1e-4}


@pytest.fixture(params=list(CELLS))
def cell(request: pytest.FixtureRequest) -> str:
    """Return the kind of recurrence."""
    return request.param


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_state(layer: RecurrentLayer, dim: int = H) -> tuple[Tensor, ...]:
    return tuple(random(B, dim, seed=10 + i) * 0.5 for i in range(layer.num_states))


@pytest.fixture
def layer(cell: str) -> RecurrentLayer:
    """Return a layer with every option off and random parameters."""
    plain = RecurrentLayer(I, H, make_config(cell))
    scatter(plain)
    return plain


def real_part(out: Tensor, lengths: Tensor | None) -> Tensor:
    """Set outputs beyond a row's length to 0."""
    if lengths is None:
        return out
    return out * (torch.arange(T)[:, None] < lengths)[..., None]


def gradients(module: nn.Module, *results: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a randomly weighted sum of the results."""
    loss = sum((r * random(*r.shape, seed=20 + i)).sum() for i, r in enumerate(results))
    names, parameters = zip(*module.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


@pytest.mark.parametrize("looped", [False, True], ids=["fused", "loop"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "packed"])
def test_plain_layer_equals_pytorch(
    layer: RecurrentLayer, lengths: Tensor | None, training: bool, looped: bool
) -> None:
    layer.train(training)
    module = torch_module([layer]).train(training)
    x, state = random(T, B, I), make_state(layer)
    if looped:
        out, after = layer._unrolled(x, state, lengths, layer.weight_hh)
    else:
        out, after = layer(x, state, lengths)
    expected, expected_after = run_torch(module, x, [state], lengths)
    out, expected = real_part(out, lengths), real_part(expected, lengths)
    torch.testing.assert_close(out, expected, **CLOSE)
    assert len(after) == len(expected_after) == layer.num_states
    for part, expected_part in zip(after, expected_after, strict=True):
        torch.testing.assert_close(part, expected_part[0], **CLOSE)
    actual = gradients(layer, out, *after)
    expected_gradients = gradients(module, expected, *(part[0] for part in expected_after))
    for name, gradient in actual.items():
        torch.testing.assert_close(gradient, expected_gradients[f"{name}_l0"], **BACK_CLOSE)


def test_cell_of(cell: str) -> None:
    assert cell_of(make_config(cell)) == cell


@pytest.mark.parametrize(
    "options, training, looped",
    [
        ({}, True, False),
        ({"weight_dropout": 0.5, "hidden_dropout": 0.5}, True, False),
        ({"recurrent_dropout": 0.5}, True, True),
        ({"recurrent_dropout": 0.5}, False, False),
        ({"layer_norm": True}, False, True),
    ],
)
def test_options_choose_loop_or_fused_kernel(
    cell: str,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    training: bool,
    looped: bool,
) -> None:
    taken: list[str] = []
    for name in ("_unrolled", "_fused"):
        real = getattr(RecurrentLayer, name)

        def spy(*args: Any, _name: str = name, _real: Any = real) -> Any:
            taken.append(_name)
            return _real(*args)

        monkeypatch.setattr(RecurrentLayer, name, spy)
    layer = RecurrentLayer(I, H, make_config(cell, **options)).train(training)
    layer(random(T, B, I), layer.initial_state(B), None)
    assert taken == ["_unrolled" if looped else "_fused"]


# --- forget bias ---------------------------------------------------------------------------------


@pytest.mark.parametrize("forget_bias", [1.0, 2.5])
def test_forget_bias_is_the_sum_of_both_biases(forget_bias: float) -> None:
    def build(value: float) -> RecurrentLayer:
        torch.manual_seed(3)
        return RecurrentLayer(I, H, make_config("lstm", forget_bias=value))

    layer, untouched = build(forget_bias), build(0.0)
    total = (layer.bias_ih + layer.bias_hh).detach()
    torch.testing.assert_close(total[H : 2 * H], torch.full((H,), forget_bias))
    others = torch.arange(4 * H) // H != 1
    for name in ("bias_ih", "bias_hh"):
        mine, plain = getattr(layer, name).detach(), getattr(untouched, name).detach()
        torch.testing.assert_close(mine[others], plain[others], rtol=0, atol=0)
        assert (plain != 0).all()  # 0: PyTorch's default, random biases
    torch.testing.assert_close(layer.weight_hh, untouched.weight_hh, rtol=0, atol=0)


# --- initial state -------------------------------------------------------------------------------


def test_zero_initial_state(layer: RecurrentLayer) -> None:
    state = layer.initial_state(3)
    assert len(state) == layer.num_states
    for part in state:
        torch.testing.assert_close(part, torch.zeros(3, H))


def test_learned_initial_state_is_a_parameter(cell: str) -> None:
    config = make_config(cell, initial_state=InitialState.learned)
    layer = RecurrentLayer(I, H, config)
    assert layer.initial is not None
    assert "initial" in dict(layer.named_parameters())
    assert (layer.initial == 0).all()  # begins as the plain layer
    nn.init.normal_(layer.initial)
    state = layer.initial_state(3)
    for number, part in enumerate(state):
        for row in part:
            torch.testing.assert_close(row, layer.initial[number])
    out, _ = layer(random(T, 3, I), state, None)
    (gradient,) = torch.autograd.grad(out.pow(2).sum(), layer.initial)
    assert (gradient.abs().amax(1) > 0).all()


# --- layer normalisation -------------------------------------------------------------------------


def norm(z: Tensor, gain: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    mean = z.mean(-1, keepdim=True)
    variance = ((z - mean) ** 2).mean(-1, keepdim=True)
    return gain * (z - mean) / torch.sqrt(variance + 1e-5) + bias


def reference_lstm(p: dict[str, Tensor], x: Tensor, h: Tensor, c: Tensor):
    """Compute equations 20 to 22 of Ba et al. 2016."""
    outputs = []
    for x_t in x:
        z = norm(h @ p["weight_hh"].T, p["norm_hh.weight"])
        z = z + norm(x_t @ p["weight_ih"].T, p["norm_ih.weight"])
        z = z + p["bias_ih"] + p["bias_hh"]
        i, f, g, o = z[:, :H], z[:, H : 2 * H], z[:, 2 * H : 3 * H], z[:, 3 * H :]
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(norm(c, p["norm_cell.weight"], p["norm_cell.bias"]))
        outputs.append(h)
    return torch.stack(outputs), (h, c)


def reference_gru(p: dict[str, Tensor], x: Tensor, h: Tensor):
    outputs = []
    for x_t in x:
        a = norm(x_t @ p["weight_ih"].T, p["norm_ih.weight"]) + p["bias_ih"]
        b = norm(h @ p["weight_hh"].T, p["norm_hh.weight"]) + p["bias_hh"]
        r = torch.sigmoid(a[:, :H] + b[:, :H])
        z = torch.sigmoid(a[:, H : 2 * H] + b[:, H : 2 * H])
        n = torch.tanh(a[:, 2 * H :] + r * b[:, 2 * H :])
        h = (1 - z) * n + z * h
        outputs.append(h)
    return torch.stack(outputs), (h,)


def reference_tanh(p: dict[str, Tensor], x: Tensor, h: Tensor):
    outputs = []
    for x_t in x:
        a = norm(x_t @ p["weight_ih"].T, p["norm_ih.weight"]) + p["bias_ih"]
        h = torch.tanh(a + norm(h @ p["weight_hh"].T, p["norm_hh.weight"]) + p["bias_hh"])
        outputs.append(h)
    return torch.stack(outputs), (h,)


@pytest.mark.parametrize(
    "kind, reference", [("lstm", reference_lstm), ("gru", reference_gru), ("tanh", reference_tanh)]
)
def test_layer_norm_equals_the_formulas(kind: str, reference: Callable[..., Any]) -> None:
    layer = RecurrentLayer(I, H, make_config(kind, layer_norm=True))
    scatter(layer)
    x, state = random(T, B, I), make_state(layer)
    parameters = dict(layer.named_parameters())
    expected, expected_after = reference(parameters, x, *state)
    out, after = layer(x, state, None)
    torch.testing.assert_close(out, expected, **CLOSE)
    for part, expected_part in zip(after, expected_after, strict=True):
        torch.testing.assert_close(part, expected_part, **CLOSE)
    expected_gradients = gradients(layer, expected, *expected_after)
    for name, gradient in gradients(layer, out, *after).items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=5e-5, rtol=5e-4)


# --- dropout inside the recurrence ---------------------------------------------------------------


def test_recurrent_dropout_has_one_mask_a_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state before each step is masked, with the same mask in all steps."""
    layer = RecurrentLayer(I, H, make_config("tanh", recurrent_dropout=0.4)).train()
    scatter(layer)
    masks: list[Tensor] = []
    real = rnn.dropout_mask

    def spy(*args: Any) -> Tensor:
        masks.append(real(*args))
        return masks[-1]

    monkeypatch.setattr(rnn, "dropout_mask", spy)
    torch.manual_seed(0)
    x, (h,) = random(T, B, I), make_state(layer)
    out, _ = layer(x, (h,), None)
    (mask,) = masks
    assert mask.shape == (B, H)
    assert len(set(map(tuple, mask.tolist()))) > 1, "rows have masks of their own"
    torch.testing.assert_close(mask.unique(), torch.tensor([0.0, 1 / 0.6]))
    for t in range(T):
        gates_x = x[t] @ layer.weight_ih.T + layer.bias_ih
        h = torch.tanh(gates_x + (h * mask) @ layer.weight_hh.T + layer.bias_hh)
        torch.testing.assert_close(out[t], h, **CLOSE)


def test_recurrent_dropout_keeps_the_memory_cell() -> None:
    """An LSTM with an open forget gate keeps its cell, whatever is dropped."""
    layer = RecurrentLayer(I, H, make_config("lstm", recurrent_dropout=0.9)).train()
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    layer.bias_ih.data[H : 2 * H] = 50.0
    state = make_state(layer)
    _, (_, c) = layer(random(T, B, I), state, None)
    torch.testing.assert_close(c, state[1])


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "packed"])
def test_weight_dropout_equals_pytorch(cell: str, lengths: Tensor | None) -> None:
    layer = RecurrentLayer(I, H, make_config(cell, weight_dropout=0.5)).train()
    scatter(layer)
    x, state = random(T, B, I), make_state(layer)
    raw = layer.weight_hh.detach().clone()
    torch.manual_seed(7)
    out, _ = layer(x, state, lengths)
    torch.manual_seed(7)
    dropped = weight_dropout(raw, 0.5, training=True)
    assert 0 < (dropped == 0).sum() < dropped.numel()
    module = torch_module([layer])
    module.weight_hh_l0.data.copy_(dropped)
    expected, _ = run_torch(module, x, [state], lengths)
    torch.testing.assert_close(real_part(out, lengths), real_part(expected, lengths), **CLOSE)
    torch.testing.assert_close(layer.weight_hh.detach(), raw, rtol=0, atol=0)


def test_weight_dropout_gradients(cell: str) -> None:
    """The gradient is 0 exactly where the weight was dropped."""
    layer = RecurrentLayer(I, H, make_config(cell, weight_dropout=0.5)).train()
    scatter(layer)
    x, state = random(T, B, I), make_state(layer)
    torch.manual_seed(7)
    out, _ = layer(x, state, None)
    torch.manual_seed(7)
    is_dropped = weight_dropout(layer.weight_hh.detach(), 0.5, training=True) == 0
    (gradient,) = torch.autograd.grad(out.pow(2).sum(), layer.weight_hh)
    assert (gradient[is_dropped] == 0).all()
    if cell == "relu":  # units that are off in every row and step pass nothing back
        assert (gradient[~is_dropped] != 0).float().mean() > 0.5
    else:
        assert (gradient[~is_dropped] != 0).all()


def test_flatten_weights_is_contiguous() -> None:
    weights = [torch.randn(8, 3, requires_grad=True), torch.randn(5, requires_grad=True)]
    pieces = flatten_weights(weights)
    for piece, weight in zip(pieces, weights, strict=True):
        assert torch.equal(piece, weight)
        assert piece.is_contiguous()
    assert pieces[1].data_ptr() == pieces[0].data_ptr() + 4 * pieces[0].numel()
    sum((2 * piece).sum() for piece in pieces).backward()
    assert all((weight.grad == 2).all() for weight in weights)


# bf16 on a CPU


@pytest.mark.parametrize("there", [True, False, None], ids=["there", "not_there", "this_cpu"])
@pytest.mark.parametrize("low", [True, False], ids=["bf16_input", "fp32_input"])
@pytest.mark.parametrize("lengths", [LENGTHS, None], ids=["lengths", "no_lengths"])
def test_under_autocast(
    cell: str,
    lengths: Tensor | None,
    low: bool,
    there: bool | None,
    layer: RecurrentLayer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a bf16 kernel an LSTM runs in fp32, on any CPU."""
    if there is not None:
        if there and cell == "lstm" and not rnn.lstm_runs_in_bf16():
            pytest.skip("this CPU has no kernel of bf16")
        monkeypatch.setattr(rnn, "lstm_runs_in_bf16", lambda: there)
    x = random(T, B, I).bfloat16()
    x, state = (x if low else x.float()), make_state(layer)
    expected, after = layer(x.float(), state, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual, actual_after = layer(x, state, lengths)
        actual.float().square().sum().backward()
    is_exact = cell == "lstm" and not (rnn.lstm_runs_in_bf16() if there is None else there)
    close = CLOSE if is_exact else {"atol": 0.1, "rtol": 0.1}
    torch.testing.assert_close(actual.float(), expected, **close)
    for one, other in zip(actual_after, after, strict=True):
        torch.testing.assert_close(one.float(), other, **close)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
