"""Sampling: the right distribution, repeatable, without special tokens."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from korlm.generation.sampling import Sampling, mask_banned, next_step, sample_ids
from korlm.models.base import LanguageModel
from korlm.modules.base import State

V = 8


class Bigrams(LanguageModel):
    """Fixed bigram probabilities; the state counts the tokens read."""

    def __init__(self, probs: Tensor) -> None:
        super().__init__()
        self.vocab_size = V
        self.log_table = nn.Parameter(probs.log())
        self.inputs: list[tuple[int, int]] = []

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, 1),)

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        (count,) = self.initial_state(inputs.shape[0]) if state is None else state
        self.inputs.append((int(inputs[0, 0]), int(count[0])))
        return self.log_table[inputs].log_softmax(-1), (count + inputs.shape[1],)


def always_next() -> Bigrams:
    """3 -> 4 -> 5 -> 6 -> 7 -> 3, with a probability near 1."""
    table = torch.full((V, V), 1e-9)
    for token in range(3, V):
        table[token, token + 1 if token + 1 < V else EOS_ID] = 1.0
    return Bigrams(table)


def test_each_step_gets_the_last_token_and_state() -> None:
    model = always_next()
    assert sample_ids(model, EOS_ID, 7, 1.0, seed=1) == [4, 5, 6, 7, 3, 4, 5]
    assert sample_ids(model, EOS_ID, 0, 1.0, seed=1) == []
    assert model.inputs == list(zip([EOS_ID, 4, 5, 6, 7, 3, 4], range(7), strict=True))


def test_a_sentence_ends_where_only_unk_can_follow() -> None:
    """As in an unsmoothed n-gram model."""
    table = torch.zeros(V, V)
    table[4, UNK_ID] = table[EOS_ID, 4] = 1.0
    model = Bigrams(table)
    model.log_table.data = model.log_table.data.clamp_min(-1e30)
    model.log_table.data[4, [i for i in range(V) if i != UNK_ID]] = -torch.inf
    assert sample_ids(model, 4, 3, 1.0, seed=1) == [EOS_ID, 4, EOS_ID]


def test_start_id() -> None:
    table = torch.full((V, V), 1e-9)
    table[BOS_ID, 6] = table[EOS_ID, 5] = 1.0
    assert sample_ids(Bigrams(table), BOS_ID, 1, 1.0, seed=1) == [6]
    assert sample_ids(Bigrams(table), EOS_ID, 1, 1.0, seed=1) == [5]


def test_special_tokens_are_never_sampled() -> None:
    table = torch.full((V, V), 0.001)
    table[:, [PAD_ID, UNK_ID, BOS_ID]] = 1000.0
    sampled = set(sample_ids(Bigrams(table), BOS_ID, 300, 1.0, seed=2))
    assert sampled == {EOS_ID, 4, 5, 6, 7}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_sharpened_distribution(temperature: float) -> None:
    """Relative frequencies against normalized p ** (1 / temperature)."""
    probs = {EOS_ID: 0.1, 4: 0.4, 5: 0.2, 6: 0.05, 7: 0.25}
    row = torch.full((V,), 1e-9)
    for token, p in probs.items():
        row[token] = p
    num = 2000
    counts = Counter(sample_ids(Bigrams(row.expand(V, V)), EOS_ID, num, temperature, seed=3))
    sharp = {token: p ** (1 / temperature) for token, p in probs.items()}
    for token, weight in sharp.items():
        p = weight / sum(sharp.values())
        assert counts[token] / num == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / num))


def test_the_seed_determines_the_tokens_and_the_global_generator_is_unused() -> None:
    model = Bigrams(torch.ones(V, V))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = sample_ids(model, EOS_ID, 40, 1.0, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert sample_ids(model, EOS_ID, 40, 1.0, seed=1) == first
    assert sample_ids(model, EOS_ID, 40, 1.0, seed=2) != first


def random_scores(seed: int, size: int = 50) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(size, generator=generator) * 2).double().log_softmax(0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top_k", [1, 3, 49, 50, 1000])
def test_top_k_keeps_the_k_most_probable_tokens(seed: int, top_k: int) -> None:
    scores = random_scores(seed)
    probs = Sampling(top_k=top_k).probs(scores)
    kept = probs > 0
    assert kept.sum() == min(top_k, 50)
    assert kept.all() or scores[kept].min() > scores[~kept].max()
    torch.testing.assert_close(probs[kept], scores[kept].softmax(0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.9, 0.999, 1.0])
def test_top_p_keeps_the_smallest_set_of_tokens(seed: int, top_p: float) -> None:
    scores = random_scores(seed)
    probs = Sampling(top_p=top_p).probs(scores)
    kept = probs > 0
    mass = float(scores[kept].exp().sum())
    assert mass >= top_p - 1e-9
    assert mass - float(scores[kept].exp().min()) < top_p
    assert kept.all() or scores[kept].min() > scores[~kept].max()
    torch.testing.assert_close(probs[kept], scores[kept].softmax(0))


def test_top_k_comes_before_top_p() -> None:
    scores = torch.tensor([0.4, 0.3, 0.2, 0.1]).double().log()
    # Renormalized over the top 3, the best token has 0.4 / 0.9 < 0.5.
    probs = Sampling(top_k=3, top_p=0.5).probs(scores)
    torch.testing.assert_close(probs, torch.tensor([4 / 7, 3 / 7, 0, 0]).double())


def test_equally_probable_tokens_are_kept_in_the_order_of_their_ids() -> None:
    scores = torch.zeros(6).double()
    assert Sampling(top_k=2).probs(scores).tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert Sampling(top_p=0.5).probs(scores).count_nonzero() == 3
    assert Sampling(temperature=0).probs(scores).tolist() == [1, 0, 0, 0, 0, 0]


def test_excluded_tokens_keep_probability_zero() -> None:
    scores = torch.tensor([-torch.inf, -1.0, -torch.inf, -2.0])
    for sampling in (Sampling(), Sampling(top_p=0.999), Sampling(3.0, 4), Sampling(0.0)):
        probs = sampling.probs(scores, previous_ids=[0, 1])
        assert probs[0] == probs[2] == 0
        assert float(probs.sum()) == pytest.approx(1)


def test_the_repetition_penalty_is_a_power_of_the_probability() -> None:
    p = torch.tensor([0.5, 0.25, 0.25]).double()
    probs = Sampling(repetition_penalty=2.0).probs(p.log(), previous_ids={0})
    torch.testing.assert_close(probs, torch.tensor([1 / 3, 1 / 3, 1 / 3]).double())
    torch.testing.assert_close(Sampling(repetition_penalty=2.0).probs(p.log()), p)


def test_temperature() -> None:
    scores = random_scores(1)
    expected = scores.exp() ** 2 / (scores.exp() ** 2).sum()
    torch.testing.assert_close(Sampling(temperature=0.5).probs(scores), expected)
    assert Sampling(temperature=0).probs(scores).argmax() == scores.argmax()
    best = Sampling(temperature=1e-310).probs(scores)  # without overflow
    assert best[scores.argmax()] == best.sum() == 1.0


def test_no_sentence_is_empty() -> None:
    scores = torch.zeros(V).log_softmax(0)
    assert mask_banned(scores)[EOS_ID] > -torch.inf
    masked = mask_banned(scores, starts_sentence=True)
    assert (masked == -torch.inf).nonzero()[:, 0].tolist() == [PAD_ID, UNK_ID, BOS_ID, EOS_ID]
    nothing = torch.full((V,), -torch.inf)
    assert mask_banned(nothing, starts_sentence=True).exp().tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


def test_independent_sentences_start_from_the_initial_state() -> None:
    model = Bigrams(torch.ones(V, V))
    ids, state = torch.tensor([4, EOS_ID, 5]), (torch.tensor([[7.0], [8.0], [9.0]]),)
    _, (carried,) = next_step(model, ids, state, EOS_ID)
    assert carried.flatten().tolist() == [8, 9, 10] and model.inputs[-1] == (4, 7)
    _, (reset,) = next_step(model, ids, state, BOS_ID)
    assert reset.flatten().tolist() == [8, 1, 10]
    next_step(model, ids[1:2], (state[0][1:2],), BOS_ID)
    assert model.inputs[-1] == (BOS_ID, 0)
