"""Softmax heads against PyTorch's linear layer and cross-entropy."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from korlm.config import LSTMConfig, Softmax
from korlm.modules.adaptive_softmax import AdaptiveSoftmaxHead, build_output
from korlm.modules.fused_cross_entropy import linear_cross_entropy
from korlm.modules.softmax import PAD_ID, SoftmaxHead

H, V = 6, 13
CLOSE = {"atol": 2e-5, "rtol": 2e-5}
BLOCK = 64  # rows
ROWS = [1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make several blocks per call."""
    monkeypatch.setattr("korlm.modules.fused_cross_entropy.BLOCK", BLOCK * V)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_layer(seed: int = 1) -> SoftmaxHead:
    layer = SoftmaxHead(H, V, None)
    layer.weight.data.copy_(random(V, H, seed=seed))
    layer.bias.data.copy_(random(V, seed=seed + 1))
    return layer


def make_rows(n: int, pads: str = "some") -> tuple[Tensor, Tensor]:
    """Return hidden states (n, H) and targets (n,), none, some or all of them <pad>."""
    targets = torch.randint(1, V, (n,), generator=torch.Generator().manual_seed(n))
    if pads == "some":
        targets[::3] = PAD_ID
    if pads == "all":
        targets[:] = PAD_ID
    return random(n, H, seed=n), targets


def reference(layer: SoftmaxHead, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = F.linear(hidden, layer.weight, layer.bias)
    return F.cross_entropy(logits, targets, reduction="sum", ignore_index=PAD_ID)


def value_and_gradients(loss: Tensor, layer: SoftmaxHead, hidden: Tensor) -> tuple[Tensor, ...]:
    return loss.detach(), *torch.autograd.grad(loss, (hidden, layer.weight, layer.bias))


@pytest.mark.parametrize("pads", ["none", "some", "all"])
@pytest.mark.parametrize("n", ROWS)
def test_cross_entropy_sum_equals_pytorch(n: int, pads: str) -> None:
    layer, (hidden, targets) = make_layer(), make_rows(n, pads)
    hidden.requires_grad_()
    actual = value_and_gradients(layer.cross_entropy_sum(hidden, targets), layer, hidden)
    expected = value_and_gradients(reference(layer, hidden, targets), layer, hidden)
    if pads == "all":
        assert actual[0] == 0
        assert all((gradient == 0).all() for gradient in actual[1:])
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    assert (actual[1][targets == PAD_ID] == 0).all()


@pytest.mark.parametrize("scale", [1 / 700, 3.0, -2.0])
def test_backward_scales(scale: float) -> None:
    """The training loop divides by the number of tokens."""
    layer, (hidden, targets) = make_layer(), make_rows(20)
    hidden.requires_grad_()
    actual = value_and_gradients(layer.cross_entropy_sum(hidden, targets) * scale, layer, hidden)
    expected = value_and_gradients(reference(layer, hidden, targets) * scale, layer, hidden)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_gradcheck_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with finite differences, with none, some and all rows <pad>, in two blocks."""
    monkeypatch.setattr("korlm.modules.fused_cross_entropy.BLOCK", 4 * V)
    weight = random(V, H, seed=1).double().requires_grad_()
    bias = random(V, seed=2).double().requires_grad_()
    for pads in ("none", "some", "all"):
        hidden, targets = make_rows(7, pads)

        def summed(*parts: Tensor, targets: Tensor = targets) -> Tensor:
            return linear_cross_entropy(*parts, targets, PAD_ID, torch.float64)

        leaf = hidden.double().requires_grad_()
        assert summed(leaf, weight, bias).dtype == torch.float64
        assert torch.autograd.gradcheck(summed, (leaf, weight, bias))


def test_a_second_derivative_is_refused() -> None:
    """The gradients of the forward pass are constants: their derivatives would be 0."""
    layer, (hidden, targets) = make_layer(), make_rows(7)
    hidden.requires_grad_()
    loss = layer.cross_entropy_sum(hidden, targets)
    (gradient,) = torch.autograd.grad(loss**2, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_gradients_reach_a_shared_matrix_from_both_sides() -> None:
    """A tied matrix is both embedding and output weight."""
    shared = torch.nn.Parameter(random(V, H))
    layer = SoftmaxHead(H, V, shared)
    assert layer.weight is shared
    inputs, targets = torch.tensor([4, 5, 6]), torch.tensor([5, 6, 7])
    (actual,) = torch.autograd.grad(
        layer.cross_entropy_sum(F.embedding(inputs, shared), targets), shared
    )
    (expected,) = torch.autograd.grad(
        reference(layer, F.embedding(inputs, shared), targets), shared
    )
    torch.testing.assert_close(actual, expected, **CLOSE)


@pytest.mark.parametrize("n", ROWS)
def test_token_nll_equals_pytorch(n: int) -> None:
    layer, (hidden, targets) = make_layer(), make_rows(n)
    logits = F.linear(hidden, layer.weight, layer.bias)
    expected = F.cross_entropy(logits, targets, reduction="none", ignore_index=PAD_ID)
    actual = layer.token_nll(hidden, targets)
    torch.testing.assert_close(actual, expected, **CLOSE)
    assert actual.dtype == torch.float32
    assert (actual[targets == PAD_ID] == 0).all()


def test_log_probs_keep_the_leading_axes() -> None:
    layer, hidden = make_layer(), random(2, 3, H)
    actual = layer.log_probs(hidden)
    assert actual.shape == (2, 3, V)
    expected = F.linear(hidden, layer.weight, layer.bias).log_softmax(-1)
    torch.testing.assert_close(actual, expected, **CLOSE)


@pytest.mark.parametrize("n", [7, 2 * BLOCK + 3])
def test_bf16_is_close_to_fp32(n: int) -> None:
    """Under autocast, with parameters, value and gradients still in fp32."""
    layer, (hidden, targets) = make_layer(), make_rows(n)
    hidden.requires_grad_()
    expected = value_and_gradients(layer.cross_entropy_sum(hidden, targets) / n, layer, hidden)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = layer.cross_entropy_sum(hidden, targets)
    assert loss.dtype == torch.float32
    actual = value_and_gradients(loss / n, layer, hidden)
    assert not torch.equal(actual[2], expected[2]), "this was not bf16"
    assert actual[0].item() == pytest.approx(expected[0].item(), rel=2e-3)
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.02 * other.abs().max().item())


def test_bf16_hidden_states_get_bf16_gradients() -> None:
    """Recurrent kernels hand out bf16 under autocast."""
    layer, (hidden, targets) = make_layer(), make_rows(9)
    low = hidden.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = layer.cross_entropy_sum(low, targets)
    loss.backward()
    assert low.grad is not None
    assert low.grad.dtype == torch.bfloat16
    full = hidden.requires_grad_()
    (expected,) = torch.autograd.grad(reference(layer, full, targets), full)
    torch.testing.assert_close(low.grad.float(), expected, rtol=0.05, atol=0.05)


def test_initial_weights() -> None:
    layer = SoftmaxHead(H, V, None)
    assert isinstance(layer.weight, torch.nn.Parameter)
    assert layer.weight.shape == (V, H)
    assert 0 < layer.weight.abs().max() <= H**-0.5
    assert (layer.bias == 0).all()


@pytest.mark.parametrize("size", [30.0, 1e3, 1e6])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_large_logits(size: float, sign: float) -> None:
    """The exponentials of all logits of a row overflow, or are all 0."""
    layer, (hidden, targets) = make_layer(), make_rows(2 * BLOCK + 3)
    layer.bias.data += sign * size
    hidden.requires_grad_()
    actual = value_and_gradients(layer.cross_entropy_sum(hidden, targets), layer, hidden)
    expected = value_and_gradients(reference(layer, hidden, targets), layer, hidden)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3 * max(1, size / 1e3), rtol=1e-2)


@pytest.mark.parametrize("sure", [0.99, 0.999, 0.9999])
def test_bf16_gradient_of_an_almost_certain_token(sure: float) -> None:
    """The gradient p - 1 of its logit must not be lost in rounding."""
    layer, targets = make_layer(), torch.tensor([3])
    layer.weight.data.zero_()
    layer.bias.data.zero_()
    layer.bias.data[3] = math.log(sure / (1 - sure) * (V - 1))
    layer.bias.data[3] = layer.bias.data[3].bfloat16()  # so that both kinds see the same logits
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        parts = (random(1, H), layer.weight, layer.bias)
        loss = linear_cross_entropy(*parts, targets, PAD_ID, dtype)
        gradients.append(torch.autograd.grad(loss, layer.bias)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.02, atol=0)


def make_adaptive(cutoffs: list[int]) -> AdaptiveSoftmaxHead:
    layer = AdaptiveSoftmaxHead(H, V, None, cutoffs)
    for number, parameter in enumerate(layer.parameters()):
        parameter.data.copy_(random(*parameter.shape, seed=number))
    return layer


CUTOFFS = [[4], [12], [4, 5], [5, 9], [4, 5, 6, 12], [6, 13], [6, 40, 50]]


@pytest.mark.parametrize("cutoffs", CUTOFFS)
def test_adaptive_probabilities_equal_two_softmaxes(cutoffs: list[int]) -> None:
    layer, hidden = make_adaptive(cutoffs), random(3, H)
    real = [c for c in cutoffs if c < V]
    bounds = [*real, V]
    first = torch.cat([layer.weight[: bounds[0]], layer.gates])
    first_bias = torch.cat([layer.bias[: bounds[0]], layer.gate_bias])
    head = (hidden @ first.T + first_bias).softmax(-1)
    actual = layer.log_probs(hidden).exp()
    torch.testing.assert_close(actual.sum(-1), torch.ones(3))
    for token in range(V):
        if token < bounds[0]:
            expected = head[:, token]
        else:
            n = max(i for i, begin in enumerate(real) if begin <= token)
            rows = slice(bounds[n], bounds[n + 1])
            inside = (hidden @ layer.weight[rows].T + layer.bias[rows]).softmax(-1)
            expected = head[:, bounds[0] + n] * inside[:, token - bounds[n]]
        torch.testing.assert_close(actual[:, token], expected)


@pytest.mark.parametrize("pads", ["none", "some", "all"])
@pytest.mark.parametrize("cutoffs", CUTOFFS)
def test_adaptive_losses_and_gradients(cutoffs: list[int], pads: str) -> None:
    layer, (hidden, targets) = make_adaptive(cutoffs), make_rows(BLOCK + 9, pads)
    hidden.requires_grad_()
    inputs = (hidden, *layer.parameters())
    loss = layer.cross_entropy_sum(hidden, targets)
    expected = F.nll_loss(layer.log_probs(hidden), targets, reduction="sum", ignore_index=PAD_ID)
    torch.testing.assert_close(loss, expected, **CLOSE)
    torch.testing.assert_close(layer.token_nll(hidden, targets).sum(), expected, **CLOSE)
    expected_gradients = torch.autograd.grad(3 * expected, inputs)
    for one, other in zip(torch.autograd.grad(3 * loss, inputs), expected_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cutoffs", [None, *CUTOFFS])
def test_init_bias_predicts_unigram_frequencies(cutoffs: list[int] | None) -> None:
    """Counts + 0.5, normalized; a zero hidden state ignores the weights."""
    layer = make_adaptive(cutoffs) if cutoffs else make_layer()
    counts = [0, 7, 0, 40, 100_000, *range(V - 5)]
    layer.init_bias_from_counts(counts)
    actual = layer.log_probs(torch.zeros(1, H))[0].exp()
    total = sum(counts) + V / 2
    expected = torch.tensor([(count + 0.5) / total for count in counts])
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=0)
    assert layer.bias.requires_grad


def test_equal_counts_give_zero_biases() -> None:
    layer = make_layer()
    layer.init_bias_from_counts([3] * V)
    assert (layer.bias == 0).all()


def test_small_vocabulary_has_full_softmax() -> None:
    config = LSTMConfig(name="lstm", softmax=Softmax.adaptive, cutoffs=[V])
    assert type(build_output(config, H, V, None)) is SoftmaxHead
    config = LSTMConfig(name="lstm", softmax=Softmax.adaptive, cutoffs=[V - 1])
    assert type(build_output(config, H, V, None)) is AdaptiveSoftmaxHead
