"""Beam search against the enumeration of every text."""

from __future__ import annotations

import itertools

import pytest
import torch
from toys import PairsModel

from korlm.dataset.vocab import BOS_ID, EOS_ID, UNK_ID
from korlm.generation.beam_search import Start, beam_search
from korlm.generation.sampling import UNWRITABLE, mask_banned, next_step

V, TOKENS = 6, [4, 5]


def start_of(model: PairsModel, start_id: int = EOS_ID) -> Start:
    log_probs, state = model.step(torch.tensor([start_id]), model.initial_state(1))
    return Start(mask_banned(log_probs[0], begins=True)[None], state, torch.zeros(1))


def every_text(
    model: PairsModel, length: int, alpha: float, sentences: int = 1, start_id: int = EOS_ID
) -> list[tuple[tuple[int, ...], float]]:
    """All texts with their scores, falling: those that end, and those cut off at ``length``."""
    texts = []
    for size in range(1, length + 1):
        for ids in itertools.product([EOS_ID, *TOKENS], repeat=size):
            ends = ids[-1] == EOS_ID and ids.count(EOS_ID) == sentences
            if ids.count(EOS_ID) > sentences or (not ends and (size < length)):
                continue
            if ids.count(EOS_ID) == sentences and not ends:
                continue
            if any(a == b == EOS_ID for a, b in itertools.pairwise((EOS_ID, *ids))):
                continue  # no empty sentences
            total, state, last = 0.0, model.initial_state(1), start_id
            for token_id in ids:
                log_probs, state = next_step(model, torch.tensor([last]), state, start_id)
                total, last = total + float(log_probs[0, token_id]), token_id
            texts.append((ids, total / ((5 + size) / 6) ** alpha))
    return sorted(texts, key=lambda text: -text[1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@torch.inference_mode()
def test_a_wide_beam_finds_the_best_of_all_texts(seed: int, alpha: float) -> None:
    model = PairsModel(V, seed)
    found = beam_search(model, start_of(model), 64, 5, alpha)
    expected = every_text(model, 5, alpha)[:64]
    assert [h.ids for h in found] == [ids for ids, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score in expected], abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
@torch.inference_mode()
def test_a_beam_as_wide_as_the_vocabulary_is_exhaustive_over_two_tokens(seed: int) -> None:
    model = PairsModel(V, seed)
    found = beam_search(model, start_of(model), V, 2, 0.6)
    expected = every_text(model, 2, 0.6)[:V]
    assert [h.ids for h in found] == [ids for ids, _ in expected]


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
@torch.inference_mode()
def test_several_sentences(start_id: int) -> None:
    model = PairsModel(V, 3)
    found = beam_search(model, start_of(model, start_id), 1024, 6, 0.6, 2, start_id)
    expected = dict(every_text(model, 6, 0.6, 2, start_id))
    assert {h.ids: h.score for h in found} == pytest.approx(expected, abs=1e-4)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


@torch.inference_mode()
def test_one_beam_takes_the_likeliest_token_each_time() -> None:
    model = PairsModel(V, 2)
    (found,) = beam_search(model, start_of(model), 1, 8, 0.0)
    log_probs, state = model.step(torch.tensor([EOS_ID]), model.initial_state(1))
    scores, ids = mask_banned(log_probs[0], begins=True), []
    while len(ids) < 8 and ids[-1:] != [EOS_ID]:
        ids.append(int(scores.argmax()))
        log_probs, state = model.step(torch.tensor(ids[-1:]), state)
        scores = mask_banned(log_probs[0])
    assert list(found.ids) == ids


@torch.inference_mode()
def test_several_starts_compete() -> None:
    model = PairsModel(V, 1)
    one = start_of(model)
    both = Start(one.scores.repeat(2, 1), (one.state[0].repeat(2),), torch.tensor([-9.0, -1.0]))
    found = beam_search(model, both, 4, 4, length_penalty=0.0)
    assert {h.origin for h in found} == {1}
    alone = beam_search(model, one, 4, 4, length_penalty=0.0)
    assert [h.log_prob for h in found] == pytest.approx([h.log_prob - 1 for h in alone], abs=1e-5)


@torch.inference_mode()
def test_never_writes_what_nobody_reads() -> None:
    model = PairsModel(V, 1)
    model.table[:, :, [*UNWRITABLE]] += 20
    texts = [h.ids for h in beam_search(model, start_of(model), 8, 6)]
    assert texts and not {UNK_ID, BOS_ID, 0} & {token_id for ids in texts for token_id in ids}
