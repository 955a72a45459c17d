"""Beam search against the enumeration of every text."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor
from toys import PairsModel

from korlm.dataset.vocab import BOS_ID, EOS_ID, UNK_ID
from korlm.generation.beam_search import BeamStart, beam_search
from korlm.generation.sampling import BANNED_IDS, mask_banned, next_step
from korlm.modules.base import State

V, TOKEN_IDS = 6, [4, 5]


def start_of(model: PairsModel, start_id: int = EOS_ID) -> BeamStart:
    log_probs, state = model.step(torch.tensor([start_id]), model.initial_state(1))
    scores = mask_banned(log_probs[0], starts_sentence=True)[None]
    return BeamStart(scores, state, torch.zeros(1))


def every_text(
    model: PairsModel, max_tokens: int, alpha: float, num_sentences: int = 1, start_id: int = EOS_ID
) -> list[tuple[tuple[int, ...], float]]:
    """Return all finished texts, and those cut at ``max_tokens``, with their scores, descending."""
    texts = []
    for size in range(1, max_tokens + 1):
        for ids in itertools.product([EOS_ID, *TOKEN_IDS], repeat=size):
            is_finished = ids[-1] == EOS_ID and ids.count(EOS_ID) == num_sentences
            if ids.count(EOS_ID) > num_sentences or (not is_finished and size < max_tokens):
                continue
            if ids.count(EOS_ID) == num_sentences and not is_finished:
                continue
            if any(a == b == EOS_ID for a, b in itertools.pairwise((EOS_ID, *ids))):
                continue  # no empty sentences
            total, state, last = 0.0, model.initial_state(1), start_id
            for token_id in ids:
                log_probs, state = next_step(model, torch.tensor([last]), state, start_id)
                total, last = total + float(log_probs[0, token_id]), token_id
            texts.append((ids, total / ((5 + size) / 6) ** alpha))
    return sorted(texts, key=lambda text: -text[1])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("num_beams", "max_tokens", "alpha"), [(64, 5, 0.0), (64, 5, 0.6), (64, 5, 2.0), (V, 2, 0.6)]
)
@torch.inference_mode()
def test_wide_beams_are_exhaustive(
    seed: int, num_beams: int, max_tokens: int, alpha: float
) -> None:
    model = PairsModel(V, seed)
    hypotheses = beam_search(model, start_of(model), num_beams, max_tokens, alpha)
    expected = every_text(model, max_tokens, alpha)[:num_beams]
    assert [h.ids for h in hypotheses] == [ids for ids, _ in expected]
    assert [h.score for h in hypotheses] == pytest.approx([s for _, s in expected], abs=1e-4)


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
@torch.inference_mode()
def test_several_sentences(start_id: int) -> None:
    model = PairsModel(V, 3)
    hypotheses = beam_search(model, start_of(model, start_id), 1024, 6, 0.6, 2, start_id)
    expected = dict(every_text(model, 6, 0.6, 2, start_id))
    assert {h.ids: h.score for h in hypotheses} == pytest.approx(expected, abs=1e-4)
    scores = [h.score for h in hypotheses]
    assert scores == sorted(scores, reverse=True)


@torch.inference_mode()
def test_several_start_rows() -> None:
    model = PairsModel(V, 1)
    start = start_of(model)
    two = BeamStart(
        start.scores.repeat(2, 1), (start.state[0].repeat(2),), torch.tensor([-9.0, -1.0])
    )
    hypotheses = beam_search(model, two, 4, 4, length_penalty=0.0)
    assert {h.start_row for h in hypotheses} == {1}
    alone = beam_search(model, start, 4, 4, length_penalty=0.0)
    expected = [h.log_prob - 1 for h in alone]
    assert [h.log_prob for h in hypotheses] == pytest.approx(expected, abs=1e-5)


@torch.inference_mode()
def test_banned_tokens_are_never_generated() -> None:
    model = PairsModel(V, 1)
    model.table[:, :, [*BANNED_IDS]] += 20
    texts = [h.ids for h in beam_search(model, start_of(model), 8, 6)]
    assert texts and not {UNK_ID, BOS_ID, 0} & {token_id for ids in texts for token_id in ids}


class OnAnotherDevice(PairsModel):
    """Takes ids and a state on the device ``meta``."""

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        assert ids.device.type == state[0].device.type == "meta"
        return self.table[0, : len(ids)].log_softmax(-1), state


def test_ids_are_on_the_device_of_the_state() -> None:
    """Scores of the first token come from NumPy, even if the model is on a GPU."""
    start = start_of(PairsModel(V, 1))
    start = dataclasses.replace(start, state=(start.state[0].to("meta"),))
    assert beam_search(OnAnotherDevice(V, 1), start, 4, 3)
