"""The decoder: fused and step by step, padding, scheduled sampling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from decoders import LENGTHS, SOURCES, make_decoder, start
from model_cases import CELLS, VOCAB_SIZE
from torch import Tensor

from korlm.config import AttentionScore, InitialState
from korlm.dataset.vocab import BOS_ID
from korlm.modules.base import State
from korlm.modules.encoder import EncoderOutput
from korlm.tasks.heads.attention import Memory
from korlm.tasks.heads.decoder import AttentionDecoder

TARGETS = torch.tensor([[BOS_ID, 4, 5, 6], [BOS_ID, 7, 0, 0], [BOS_ID, 8, 9, 0]])
B, T = TARGETS.shape
DROPOUTS = {"input_dropout": 0.3, "hidden_dropout": 0.4, "output_dropout": 0.3}


def step_by_step(
    decoder: AttentionDecoder, inputs: Tensor, memory: Memory, state: State
) -> tuple[Tensor, Tensor]:
    """Return log-probabilities (B, T, V) and attention weights (B, T, S) of single steps."""
    steps, weights = [], []
    for ids in inputs.t():
        log_probs, attention, state = decoder.step(ids[:, None], memory, state)
        steps.append(log_probs)
        weights.append(attention)
    return torch.cat(steps, 1), torch.cat(weights, 1)


@pytest.mark.parametrize("input_feeding", [False, True], ids=["plain", "input_feeding"])
@pytest.mark.parametrize("score", AttentionScore)
@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_all_steps_at_once_equal_single_steps(
    cell: str, score: AttentionScore, input_feeding: bool
) -> None:
    encoder, decoder = make_decoder(cell, score, input_feeding)
    memory, state = start(encoder, decoder)
    out = decoder(TARGETS, memory, state)
    log_probs, weights = step_by_step(decoder, TARGETS, memory, state)
    torch.testing.assert_close(decoder.output.log_probs(out.vectors, out.output_weight), log_probs)
    torch.testing.assert_close(out.weights, weights)
    assert out.vectors.shape == (B, T, decoder.output_dim)


@pytest.mark.parametrize(
    "options",
    [{"tie_weights": True}, {"num_layers": 1}, {"num_layers": 3}, {"layer_norm": True}],
    ids=lambda options: next(iter(options)) + str(next(iter(options.values()))),
)
@torch.no_grad()
def test_options(options: dict[str, Any]) -> None:
    encoder, decoder = make_decoder(**options)
    memory, state = start(encoder, decoder)
    out = decoder(TARGETS, memory, state)
    log_probs, _ = step_by_step(decoder, TARGETS, memory, state)
    torch.testing.assert_close(decoder.output.log_probs(out.vectors, out.output_weight), log_probs)


@torch.no_grad()
def test_several_hypotheses_of_a_source() -> None:
    encoder, decoder = make_decoder(input_feeding=True)
    memory, state = start(encoder, decoder)
    ids = torch.tensor([[4, 5], [6, 7], [8, 9]])
    log_probs, weights, after = decoder.step(
        ids, memory, tuple(part.repeat_interleave(2, 0) for part in state)
    )
    for beam in range(2):
        expected, expected_weights, _ = decoder.step(ids[:, beam : beam + 1], memory, state)
        torch.testing.assert_close(log_probs[:, beam : beam + 1], expected)
        torch.testing.assert_close(weights[:, beam : beam + 1], expected_weights)
    assert all(len(part) == 2 * B for part in after)


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_is_the_same_in_a_loop(variational: bool) -> None:
    encoder, decoder = make_decoder(variational_dropout=variational, **DROPOUTS)
    memory, state = start(encoder, decoder)
    decoder.train()
    torch.manual_seed(3)
    fused = decoder(TARGETS, memory, state).vectors
    torch.manual_seed(3)
    looped = decoder(TARGETS, memory, state, forcing_ratio=1 - 1e-9).vectors
    torch.testing.assert_close(fused, looped)
    assert not torch.equal(fused, decoder(TARGETS, memory, state).vectors)


@torch.no_grad()
def test_without_forcing_the_decoder_reads_its_own_tokens() -> None:
    encoder, decoder = make_decoder(input_feeding=True)
    memory, state = start(encoder, decoder)
    out = decoder(TARGETS, memory, state, forcing_ratio=0.0)
    own = decoder.output.log_probs(out.vectors).argmax(-1)
    inputs = torch.cat([TARGETS[:, :1], own[:, :-1]], 1)
    torch.testing.assert_close(decoder(inputs, memory, state).vectors, out.vectors)


def test_scheduled_sampling_drops_the_same_tokens_in_all_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder, decoder = make_decoder(embedding_dropout=0.5)
    memory, state = start(encoder, decoder)
    decoder.train()
    with torch.no_grad():
        decoder.output.bias[4] = 1e4  # all predictions are 4
        decoder.embedding.weight.fill_(1.0)
    steps: list[Tensor] = []
    run = decoder._run

    def record(x: Tensor, *args: Any) -> Any:
        steps.append(x)
        return run(x, *args)

    monkeypatch.setattr(decoder, "_run", record)
    decoder(torch.full((B, 30), 4), memory, state, forcing_ratio=0.5)
    embedded = torch.cat(steps)  # (T, B, E)
    assert len(steps) == 30 and embedded.unique().tolist() in ([0.0], [2.0])


def test_initial_states_of_the_encoder_are_no_parameters() -> None:
    for name in ("learned", "noise"):
        _, decoder = make_decoder(initial_state=InitialState(name))
        assert not [name for name, _ in decoder.named_parameters() if "initial" in name]


def test_the_initial_state_uses_both_directions_of_each_layer() -> None:
    encoder, decoder = make_decoder()
    encoded = encoder(SOURCES, lengths=LENGTHS)
    _, before = decoder.start(encoded, LENGTHS)
    assert [part.shape for part in before] == [(B, 6)] * 4  # h and c of two layers
    assert len(encoded.state) == 8
    for number in range(8):  # h and c, forward and backward, of two layers
        changed = list(encoded.state)
        changed[number] = changed[number] + 1
        _, after = decoder.start(EncoderOutput(*encoded[:2], tuple(changed), None), LENGTHS)
        differs = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert differs.index(True) == number // 4 * 2 + number % 2 and sum(differs) == 1


def test_gradients_reach_every_weight() -> None:
    for input_feeding in (False, True):
        encoder, decoder = make_decoder(
            score=AttentionScore.additive, input_feeding=input_feeding, tie_weights=True
        )
        memory, state = decoder.start(encoder(SOURCES, lengths=LENGTHS), LENGTHS)
        out = decoder(TARGETS, memory, state)
        loss = decoder.output.cross_entropy_sum(
            out.vectors.flatten(0, 1), TARGETS.flatten(), out.output_weight
        )
        loss.backward()
        named = [*encoder.named_parameters(), *decoder.named_parameters()]
        assert not [name for name, p in named if p.grad is None or not p.grad.abs().sum() > 0]
    assert len(decoder.output.bias) == VOCAB_SIZE
