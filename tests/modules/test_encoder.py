"""The recurrent encoder against PyTorch's modules, in one and two directions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import CELLS, DROPOUTS, TOKENS, VOCAB_SIZE, make_config, scatter
from torch import Tensor
from torch_rnn import run_torch, torch_module

from korlm.config import InitialState, SubwordMode
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.encoder import PairedEncoder, RecurrentEncoder

T, B, E, H = 6, 4, 5, 7
LENGTHS = torch.tensor([3, 6, 1, 4])
CLOSE = {"atol": 2e-6, "rtol": 2e-5}
DIRECTIONS = pytest.mark.parametrize("bidirectional", [False, True], ids=["one", "both"])


def make_encoder(
    cell: str, output_dim: int | None = None, bidirectional: bool = False, **options: Any
) -> RecurrentEncoder:
    config = make_config(cell, **{"embedding_dim": E, "hidden_dim": H, "num_layers": 3, **options})
    embedding = TokenEmbedding(config, VOCAB_SIZE, TOKENS)
    encoder = RecurrentEncoder(embedding, config, output_dim, bidirectional)
    scatter(encoder)
    return encoder.eval()


def random_ids() -> Tensor:
    return torch.randint(VOCAB_SIZE, (B, T), generator=torch.Generator().manual_seed(1))


def valid(out: Tensor, lengths: Tensor | None) -> Tensor:
    """Set what is beyond a row's length to 0, (B, T, D)."""
    return out if lengths is None else out * (torch.arange(T) < lengths[:, None])[..., None]


@DIRECTIONS
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("cell", CELLS)
def test_encoder_equals_pytorch(cell: str, lengths: Tensor | None, bidirectional: bool) -> None:
    encoder = make_encoder(cell, bidirectional=bidirectional, initial_state=InitialState.learned)
    module = torch_module(list(encoder.layers), list(encoder.backward_layers))
    ids, state = random_ids(), encoder.initial_state(B)
    parts = 2 if cell == "lstm" else 1
    states = [state[i : i + parts] for i in range(0, len(state), parts)]
    x = encoder.embedding.weight[ids.t()]
    expected, expected_after = run_torch(module, x, states, lengths)
    for given in (None, state):
        encoded = encoder(ids, given, lengths)
        assert encoded.output.shape == (B, T, encoder.output_dim)
        torch.testing.assert_close(
            valid(encoded.output, lengths), valid(expected.transpose(0, 1), lengths), **CLOSE
        )
        # The lowest layer comes first, forward before backward, h before c.
        in_order = [part[n] for n in range(len(states)) for part in expected_after]
        for part, expected_part in zip(encoded.state, in_order, strict=True):
            torch.testing.assert_close(part, expected_part, **CLOSE)


@DIRECTIONS
@pytest.mark.parametrize("num_layers, dims", [(1, [3]), (2, [H, 3]), (3, [H, H, 3])])
@pytest.mark.parametrize("cell", CELLS)
def test_the_last_layer_has_its_own_size(
    cell: str, num_layers: int, dims: list[int], bidirectional: bool
) -> None:
    encoder = make_encoder(cell, 3, bidirectional, num_layers=num_layers)
    encoded = encoder(random_ids())
    directions = 2 if bidirectional else 1
    assert encoded.output.shape == (B, T, 3 * directions)
    parts = directions * (2 if cell == "lstm" else 1)
    assert [part.shape for part in encoded.state] == [(B, d) for d in dims for _ in range(parts)]
    shapes = [part.shape for part in encoder.initial_state(B)]
    assert shapes == [part.shape for part in encoded.state]
    assert len(encoder.muon_weights()) == 2 * directions * num_layers


@DIRECTIONS
@pytest.mark.parametrize("option", [{}, {"layer_norm": True}], ids=["fused", "loop"])
def test_a_row_in_a_batch_equals_the_row_alone(bidirectional: bool, option: Any) -> None:
    encoder, ids = make_encoder("lstm", bidirectional=bidirectional, **option), random_ids()
    encoded = encoder(ids, None, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = encoder(ids[row : row + 1, :length])
        torch.testing.assert_close(encoded.output[row, :length], alone.output[0], **CLOSE)
        for part, expected in zip(encoded.state, alone.state, strict=True):
            torch.testing.assert_close(part[row], expected[0], **CLOSE)


@DIRECTIONS
def test_dropouts_act_in_training_only(bidirectional: bool) -> None:
    plain = make_encoder("gru", bidirectional=bidirectional)
    encoder = make_encoder("gru", bidirectional=bidirectional, **DROPOUTS)
    ids = random_ids()
    torch.testing.assert_close(encoder(ids).output, plain(ids).output)
    torch.manual_seed(1)
    encoded = encoder.train()(ids)
    assert not torch.allclose(encoded.raw_output, plain(ids).output)
    share = (encoded.output == 0).float().mean().item()
    assert share == pytest.approx(DROPOUTS["output_dropout"], abs=0.15)


@pytest.mark.parametrize(
    "spelling, tied",
    [(SubwordMode.none, True), (SubwordMode.none, False), (SubwordMode.both, True)],
)
def test_output_weight_is_for_tied_heads(spelling: SubwordMode, tied: bool) -> None:
    encoder = make_encoder("lstm", subword_embedding=spelling, tie_weights=tied)
    weight = encoder(random_ids()).output_weight
    if tied:
        torch.testing.assert_close(weight, encoder.embedding.full_weight())
    else:
        assert weight is None


@pytest.mark.parametrize("std", [None, 0.5], ids=["learned", "given"])
def test_a_noisy_initial_state(std: float | None) -> None:
    noisy = make_encoder("lstm", initial_state=InitialState.noise, initial_state_std=std)
    first, second = noisy.train().initial_state(2000), noisy.initial_state(2000)
    layers = [layer for layer in noisy.layers for _ in range(layer.num_states)]
    for number, (part, other, layer) in enumerate(zip(first, second, layers, strict=True)):
        assert not torch.equal(part, other)
        width = torch.full((H,), std or 0.0)
        if layer.noise_initial is not None:
            width = layer.noise_initial[number % layer.num_states].abs()
        torch.testing.assert_close(part.std(0), width, rtol=0.1, atol=1e-3)
        torch.testing.assert_close(part.mean(0), torch.zeros(H), rtol=0, atol=0.1)
    assert all(not part.any() for part in noisy.eval().initial_state(3))
    if std is None:
        noisy.train()(random_ids()).output.sum().backward()
        width = noisy.layers[0].noise_initial
        assert width is not None and width.grad is not None and width.grad.any()


def test_a_paired_encoder_is_two_encoders() -> None:
    encoders = [make_encoder("gru", num_layers=2) for _ in range(2)]
    paired = PairedEncoder(*encoders).eval()
    ids, lengths = random_ids(), torch.tensor([5, 3, 1])
    out = paired(ids[:3, :5], lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        line = ids[row : row + 1, :length]
        ahead = encoders[0].eval()(line).output[0]
        back = encoders[1].eval()(line.flip(1)).output[0].flip(0)
        torch.testing.assert_close(out.output[row, :length], torch.cat([ahead, back], -1))
