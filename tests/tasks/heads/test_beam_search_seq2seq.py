"""Beam search of a decoder against enumeration and against a search with lists."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from decoders import LENGTHS, SOURCES, make_decoder, start
from torch import Tensor

from korlm.dataset.vocab import BOS_ID, EOS_ID, UNK_ID
from korlm.modules.base import State
from korlm.modules.encoder import RecurrentEncoder
from korlm.tasks.heads.attention import Memory
from korlm.tasks.heads.beam_search import (
    MIN_COVERAGE,
    BeamSettings,
    DecodedSequence,
    batched_beam_search,
)
from korlm.tasks.heads.decoder import AttentionDecoder

VOCAB_SIZE = 7
WORDS = range(4, VOCAB_SIZE)
LIMITS = [3, 2, 1]
PENALTIES = pytest.mark.parametrize("alpha, beta", [(0.0, 0.0), (0.7, 0.0), (0.7, 0.4)])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "input_feeding"])
def models(request: pytest.FixtureRequest) -> tuple[RecurrentEncoder, AttentionDecoder]:
    encoder, decoder = make_decoder(input_feeding=request.param, vocab_size=VOCAB_SIZE)
    with torch.no_grad():
        decoder.output.weight *= 3  # distributions that differ from step to step
    return encoder, decoder


@torch.no_grad()
def score(
    decoder: AttentionDecoder, memory: Memory, state: State, ids: tuple[int, ...], s: BeamSettings
) -> DecodedSequence:
    """Score a text of one source by the formulas, from teacher-forced probabilities."""
    inputs, targets = torch.tensor([[BOS_ID, *ids]]), [*ids, EOS_ID]
    out = decoder(inputs, memory, state)
    log_probs = decoder.output.log_probs(out.vectors)[0]
    log_prob = sum(float(log_probs[t, target]) for t, target in enumerate(targets))
    assert memory.mask is not None
    coverage = sum(
        math.log(min(max(float(total), MIN_COVERAGE), 1.0))
        for total, is_token in zip(out.weights[0].sum(0), memory.mask[0], strict=True)
        if is_token
    )
    divisor = ((5 + len(targets)) / 6) ** s.length_penalty
    return DecodedSequence(ids, log_prob, log_prob / divisor + s.coverage_penalty * coverage)


def of_source(memory: Memory, state: State, source: int) -> tuple[Memory, State]:
    rows = torch.tensor([source])
    return memory.select(rows), tuple(part[rows] for part in state)


def check(actual: list[DecodedSequence], expected: list[DecodedSequence]) -> None:
    assert [hypothesis.ids for hypothesis in actual] == [hypothesis.ids for hypothesis in expected]
    for one, other in zip(actual, expected, strict=True):
        assert one.log_prob == pytest.approx(other.log_prob, rel=1e-4)
        assert one.score == pytest.approx(other.score, rel=1e-4)


@PENALTIES
def test_a_beam_for_every_text_finds_the_best_ones(
    models: tuple[RecurrentEncoder, AttentionDecoder], alpha: float, beta: float
) -> None:
    memory, state = start(*models)
    settings = BeamSettings(200, 5, alpha, beta)
    result = batched_beam_search(models[1], memory, state, LIMITS, settings)
    for source, limit in enumerate(LIMITS):
        texts = itertools.chain.from_iterable(
            itertools.product(WORDS, repeat=length) for length in range(limit + 1)
        )
        one = of_source(memory, state, source)
        scored = [score(models[1], *one, ids, settings) for ids in texts]
        scored.sort(key=lambda hypothesis: -hypothesis.score)
        check(result[source], scored[:5])


def search_with_lists(
    decoder: AttentionDecoder, memory: Memory, state: State, limit: int, settings: BeamSettings
) -> list[DecodedSequence]:
    """Run beam search for one source; each text is scored from its start."""
    live: list[tuple[int, ...]] = [()]
    complete: list[DecodedSequence] = []
    while live:
        candidates = []  # a text that ends in <eos> is complete
        for ids in live:
            total = partial(decoder, memory, state, ids, settings)
            for token in [EOS_ID, *WORDS] if len(ids) < limit else [EOS_ID]:
                candidates.append(((*ids, token), total[token]))
        candidates.sort(key=lambda candidate: -candidate[1])
        best = candidates[: settings.num_beams - len(complete)]
        live = [ids for ids, _ in best if ids[-1] != EOS_ID]
        complete += [
            score(decoder, memory, state, ids[:-1], settings)
            for ids, _ in best
            if ids[-1] == EOS_ID
        ]
    return sorted(complete, key=lambda hypothesis: -hypothesis.score)


@torch.no_grad()
def partial(
    decoder: AttentionDecoder, memory: Memory, state: State, ids: tuple[int, ...], s: BeamSettings
) -> Tensor:
    """Return the scores (V,) of a text with each token as its next one."""
    out = decoder(torch.tensor([[BOS_ID, *ids]]), memory, state)
    log_probs = decoder.output.log_probs(out.vectors)[0]
    before = sum(float(log_probs[t, token]) for t, token in enumerate(ids))
    assert memory.mask is not None
    attention = out.weights[0].sum(0)[memory.mask[0]].clamp(MIN_COVERAGE, 1)
    divisor = ((6 + len(ids)) / 6) ** s.length_penalty
    return (before + log_probs[-1]) / divisor + s.coverage_penalty * attention.log().sum()


@PENALTIES
@pytest.mark.parametrize("num_beams", [1, 2, 3])
def test_search_equals_a_search_with_lists(
    models: tuple[RecurrentEncoder, AttentionDecoder], num_beams: int, alpha: float, beta: float
) -> None:
    memory, state = start(*models)
    limits = [8, 5, 0]
    settings = BeamSettings(num_beams, num_beams, alpha, beta)
    result = batched_beam_search(models[1], memory, state, limits, settings)
    for source, limit in enumerate(limits):
        one = of_source(memory, state, source)
        check(result[source], search_with_lists(models[1], *one, limit, settings))
        first = batched_beam_search(
            models[1], *one, [limit], BeamSettings(num_beams, 1, alpha, beta)
        )
        check(first[0], result[source][:1])
        for hypothesis in result[source]:
            assert len(hypothesis.ids) <= limit
            assert not {EOS_ID, BOS_ID, UNK_ID, 0} & set(hypothesis.ids)


def test_batch_order_and_padding_do_not_matter(
    models: tuple[RecurrentEncoder, AttentionDecoder],
) -> None:
    settings = BeamSettings(3, 3, 0.5, 0.2)
    limits = [6, 4, 5]
    expected = batched_beam_search(models[1], *start(*models), limits, settings)
    order = torch.tensor([2, 0, 1])
    padded = torch.cat([SOURCES, torch.zeros(3, 2, dtype=torch.int64)], 1)
    moved = start(*models, padded[order], LENGTHS[order])
    actual = batched_beam_search(models[1], *moved, [limits[n] for n in order.tolist()], settings)
    for row, n in enumerate(order.tolist()):
        check(actual[row], expected[n])


def test_no_sources(models: tuple[RecurrentEncoder, AttentionDecoder]) -> None:
    memory, state = start(*models)
    none = torch.zeros(0, dtype=torch.int64)
    state = tuple(part[none] for part in state)
    assert batched_beam_search(models[1], memory.select(none), state, [], BeamSettings()) == []
