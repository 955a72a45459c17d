"""Comparison, perplexity and timing of steps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import VOCAB_SIZE, make_network

from korlm.dataset.vocab import BOS_ID, EOS_ID
from korlm.evaluation.token_scores import score_continuous, score_sentences
from korlm.exporting.onnx_graph import Array, Graph
from korlm.exporting.onnx_step import begin_state, build_step
from korlm.exporting.verify import (
    Ints,
    ParallelText,
    State,
    Step,
    largest_difference,
    milliseconds,
    onnx_step,
    perplexity,
    torch_step,
)


def text(num_tokens: int) -> Ints:
    random = np.random.default_rng(0)
    ids = random.integers(4, VOCAB_SIZE, num_tokens)
    ids[random.random(num_tokens) < 1 / 5] = EOS_ID
    ids[-1] = EOS_ID
    return ids


def shifted(step: Step, by: float, token_id: int) -> Step:
    """Return a step that adds a constant to the log-probabilities after one token."""

    def run(ids: Ints, state: State) -> tuple[Array, State]:
        log_probs, state = step.run(ids, state)
        return log_probs + by * (ids == token_id)[:, None], state

    return Step(step.begin, run)


def test_columns() -> None:
    ids = np.array([5, 6, EOS_ID, 7, 8, 9, EOS_ID], dtype=np.uint16)
    inputs, targets, resets = ParallelText.cut(ids, 2, BOS_ID, by_sentence=True)
    assert inputs.T.tolist() == [[BOS_ID, 5, 6, BOS_ID], [7, 8, 9, BOS_ID]]
    assert targets.T.tolist() == [[5, 6, EOS_ID, 7], [8, 9, EOS_ID, 0]]
    assert resets.T.tolist() == [[True, False, False, True], [False, False, False, True]]
    carried = ParallelText.cut(ids, 2, EOS_ID, by_sentence=False)
    assert not carried.resets.any()
    assert carried.inputs[:, 0].tolist() == [EOS_ID, 5, 6, EOS_ID]


@pytest.mark.parametrize("cell", ["lstm", "window"])
def test_perplexity_equals_the_models(cell: str) -> None:
    model, ids = make_network(cell, "tied"), text(200)
    nats = torch.cat([window.nats for window in score_continuous(model, ids, EOS_ID)])
    carried = perplexity(torch_step(model), ParallelText.cut(ids, 1, EOS_ID, by_sentence=False), "")
    assert carried == pytest.approx(math.exp(nats.double().mean()), rel=1e-6)
    reset = perplexity(torch_step(model), ParallelText.cut(ids, 1, BOS_ID, by_sentence=True), "")
    expected = math.exp(score_sentences(model, ids, BOS_ID).nats.mean())
    assert reset == pytest.approx(expected, rel=1e-6) != carried


def test_padding_does_not_count() -> None:
    """Every column repeats the same sentence, the last one truncated."""
    step, sentence = torch_step(make_network("lstm", "tied")), text(10)
    whole = perplexity(step, ParallelText.cut(sentence, 1, EOS_ID, by_sentence=True), "")
    three = ParallelText.cut(np.tile(sentence, 3), 3, EOS_ID, by_sentence=True)
    assert perplexity(step, three, "") == pytest.approx(whole)
    assert not three.targets.size % 3
    short = ParallelText.cut(np.tile(sentence, 2)[:-1], 2, EOS_ID, by_sentence=True)
    assert short.targets[-1, 1] == 0
    assert perplexity(step, short, "") != pytest.approx(whole)


@pytest.mark.parametrize("by", [0.5, -0.5, math.nan])
def test_largest_difference(by: float) -> None:
    step = torch_step(make_network("lstm", "tied"))
    inputs = np.full((5, 3), 6)
    inputs[3, 1] = 7
    result = largest_difference(step, shifted(step, by, 7), inputs)
    assert result == pytest.approx(0.5) if by == by else math.isnan(result)
    assert largest_difference(step, shifted(step, 0.5, 8), inputs) == 0


@pytest.mark.parametrize("option", ["tied", "learned_state"])
def test_onnxruntime_carries_the_state(tmp_path: Path, option: str) -> None:
    model = make_network("gru", option)
    path = tmp_path / "step.onnx"
    path.write_bytes(build_step(model, Graph(), EOS_ID))
    expected, actual = torch_step(model), onnx_step(path, begin_state(model))
    columns = ParallelText.cut(text(100), 4, EOS_ID, by_sentence=True)
    assert largest_difference(expected, actual, columns.inputs) < 1e-5
    result = perplexity(actual, columns, "")
    assert result == pytest.approx(perplexity(expected, columns, ""), rel=1e-5)
    assert 0 < milliseconds(actual, columns.inputs[:, 0]) < 1000
