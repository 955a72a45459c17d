"""Muon: orthogonalization, gates of recurrent layers, and AdamW for everything else."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

from korlm.config import AdamConfig, LSTMConfig, MuonConfig, RNNConfig
from korlm.models.registry import build_model
from korlm.training.muon import Muon, orthogonalize
from korlm.training.optimizers import build_optimizer

CONFIG = MuonConfig(name="muon", lr=0.01, matrix_lr=0.05)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (3, 5, 8)])
def test_orthogonalize(shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    u, _, vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = u @ torch.diag(torch.linspace(0.2, 2, vh.shape[-2])) @ vh
    result = orthogonalize(matrix)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.5
    assert values.max() < 1.3
    inner = u.mT @ result @ vh.mT  # diagonal if the singular vectors are the same
    off = inner - torch.diag_embed(torch.diagonal(inner, dim1=-2, dim2=-1))
    assert off.abs().max() < 1e-3
    torch.testing.assert_close(orthogonalize(matrix * 1e3), result, atol=1e-3, rtol=1e-3)


def model_and_loss() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    model = build_model(LSTMConfig(name="lstm", embedding_dim=5, hidden_dim=7), 11)
    ids = torch.randint(1, 11, (3, 6))
    return model, model.training_loss(ids, ids).nll


def test_gates_are_orthogonalized_separately() -> None:
    model, loss = model_and_loss()
    optimizer = build_optimizer(model, CONFIG)
    layer = model.encoder.layers[0]
    before = layer.weight_hh.detach().clone()
    loss.backward()
    optimizer.step()
    gates = ((layer.weight_hh.detach() - before) / -CONFIG.matrix_lr).view(4, 7, 7)
    grads = layer.weight_hh.grad.view(4, 7, 7)
    for gate, grad in zip(gates, grads, strict=True):
        torch.testing.assert_close(gate, orthogonalize(grad), atol=0.02, rtol=0)


def test_everything_else_is_adamw() -> None:
    updated = []
    for config in (CONFIG, AdamConfig(name="adamw", lr=0.01)):
        model, loss = model_and_loss()
        optimizer = build_optimizer(model, config)
        loss.backward()
        optimizer.step()
        updated.append(dict(model.named_parameters()))
    for name, parameter in updated[0].items():
        is_hidden = "weight_ih" in name or "weight_hh" in name
        assert torch.equal(parameter, updated[1][name]) != is_hidden, name


def test_momentum_and_schedule() -> None:
    weight = nn.Parameter(torch.eye(3))
    optimizer = Muon([{"params": [weight], "gates": 1, "weight_decay": 0.0}], [], 1.0, 0.1, 0.5)
    grads = [torch.tensor([[1.0, 2, 0], [0, 3, 1], [1, 0, 1]]), torch.eye(3)]
    for share, grad in zip((1.0, 0.25), grads, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = share  # as the loop does, whose peak is defaults["lr"]
        weight.grad = grad
        optimizer.step()
    first = 0.5 * grads[0]
    second = 0.5 * first + 0.5 * grads[1]
    expected = torch.eye(3) - 0.1 * orthogonalize(0.5 * grads[0] + 0.5 * first)
    expected -= 0.025 * orthogonalize(0.5 * grads[1] + 0.5 * second)
    torch.testing.assert_close(weight.detach(), expected)


def test_the_iteration_equals_the_quintic_one() -> None:
    """Compared with the form in the paper, in double precision."""
    for shape in ((5, 8), (8, 5), (2, 6, 6)):
        matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        x = matrix / (torch.linalg.matrix_norm(matrix, keepdim=True) + 1e-7)
        for _ in range(5):
            cube = x @ x.mT @ x
            x = 3.4445 * x - 4.7750 * cube + 2.0315 * (x @ x.mT @ cube)
        torch.testing.assert_close(orthogonalize(matrix), x, atol=1e-9, rtol=0)
    matrix = torch.randn(4, 60, 60, generator=torch.Generator().manual_seed(2))
    low = orthogonalize(matrix.bfloat16()).float()
    assert (low - orthogonalize(matrix)).norm() < 0.03 * low.norm()


def test_matrices_of_one_shape_are_updated_in_one_batch() -> None:
    results = []
    for together in (True, False):
        torch.manual_seed(4)
        weights = [nn.Parameter(torch.randn(shape)) for shape in ((8, 3), (8, 3), (8, 4), (8, 3))]
        gates = (2, 2, 2, 4)
        groups = [
            {"params": [weight], "gates": count, "weight_decay": 0.1 * number}
            for number, (weight, count) in enumerate(zip(weights, gates, strict=True))
        ]
        for weight in weights:
            weight.grad = torch.randn(weight.shape)
        weights[3].grad = None if together else weights[3].grad
        for part in [groups] if together else [[group] for group in groups[:3]]:
            Muon(part, [], 1.0, 0.1, 0.9).step()
        results.append([weight.detach() for weight in weights])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_state_dict() -> None:
    results = []
    for restored in (False, True):
        model, loss = model_and_loss()
        optimizer = build_optimizer(model, CONFIG)
        loss.backward()
        optimizer.step()
        if restored:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            optimizer = build_optimizer(model, CONFIG)
            optimizer.load_state_dict(torch.load(file, weights_only=True))
        optimizer.step()
        results.append([p.detach().clone() for p in model.parameters()])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_an_rnn_has_no_gates() -> None:
    model = build_model(RNNConfig(name="rnn", embedding_dim=5, hidden_dim=7), 11)
    assert {group["gates"] for group in build_optimizer(model, CONFIG).param_groups} == {0, 1}


def test_a_model_without_hidden_matrices_uses_adamw() -> None:
    results = []
    for config in (CONFIG, AdamConfig(name="adamw", lr=0.01)):
        torch.manual_seed(1)
        layer = nn.Linear(3, 3)
        layer(torch.ones(3)).sum().backward()
        build_optimizer(layer, config).step()
        results.append(layer.weight.detach())
    assert torch.equal(*results)
