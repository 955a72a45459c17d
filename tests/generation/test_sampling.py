"""Text drawn from a model: from the right distribution, repeatable, without special tokens."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from korlm.generation.sampling import Sampling, mask_banned, next_step, sample_ids
from korlm.models.base import LanguageModel
from korlm.modules.state import State

V = 8


class Bigrams(LanguageModel):
    """Fixed probabilities of each token after each; the state counts what was read."""

    def __init__(self, probs: Tensor) -> None:
        super().__init__()
        self.vocab_size = V
        self.log_table = nn.Parameter(probs.log())
        self.seen: list[tuple[int, int]] = []

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, 1),)

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        (count,) = self.initial_state(inputs.shape[0]) if state is None else state
        self.seen.append((int(inputs[0, 0]), int(count[0])))
        return self.log_table[inputs].log_softmax(-1), (count + inputs.shape[1],)


def always_next() -> Bigrams:
    """3 -> 4 -> 5 -> 6 -> 7 -> 3, nearly for sure."""
    table = torch.full((V, V), 1e-9)
    for token in range(3, V):
        table[token, token + 1 if token + 1 < V else EOS_ID] = 1.0
    return Bigrams(table)


def test_follows_the_model_with_the_state_handed_on() -> None:
    model = always_next()
    assert sample_ids(model, EOS_ID, 7, 1.0, seed=1) == [4, 5, 6, 7, 3, 4, 5]
    # What is read is what was drawn, after the start, and the state knows how much that was.
    assert model.seen == list(zip([EOS_ID, 4, 5, 6, 7, 3, 4], range(7), strict=True))


def test_where_nothing_but_unknown_can_follow_the_sentence_ends() -> None:
    """As in a model of plain counts, after a token that only <unk> ever followed."""
    table = torch.zeros(V, V)
    table[4, UNK_ID] = table[EOS_ID, 4] = 1.0
    model = Bigrams(table)
    model.log_table.data = model.log_table.data.clamp_min(-1e30)
    model.log_table.data[4, [i for i in range(V) if i != UNK_ID]] = -torch.inf
    assert sample_ids(model, 4, 3, 1.0, seed=1) == [EOS_ID, 4, EOS_ID]


def test_starts_where_it_is_told() -> None:
    table = torch.full((V, V), 1e-9)
    table[BOS_ID, 6] = table[EOS_ID, 5] = 1.0
    assert sample_ids(Bigrams(table), BOS_ID, 1, 1.0, seed=1) == [6]
    assert sample_ids(Bigrams(table), EOS_ID, 1, 1.0, seed=1) == [5]


def test_no_tokens() -> None:
    assert sample_ids(always_next(), EOS_ID, 0, 1.0, seed=1) == []


def test_never_draws_padding_unknown_or_begin() -> None:
    table = torch.full((V, V), 0.001)
    table[:, [PAD_ID, UNK_ID, BOS_ID]] = 1000.0
    drawn = set(sample_ids(Bigrams(table), BOS_ID, 300, 1.0, seed=2))
    assert drawn == {EOS_ID, 4, 5, 6, 7}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_sharpened_distribution(temperature: float) -> None:
    """Shares of draws against p ** (1 / temperature), normalised by hand."""
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


def test_a_tiny_temperature_takes_the_best() -> None:
    row = torch.tensor([1e-9, 1e-9, 1e-9, 0.3, 0.31, 0.1, 0.1, 0.19])
    assert set(sample_ids(Bigrams(row.expand(V, V)), EOS_ID, 50, 0.001, seed=1)) == {4}


def test_the_seed_decides_and_the_global_generator_does_not() -> None:
    model = Bigrams(torch.ones(V, V))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = sample_ids(model, EOS_ID, 40, 1.0, seed=1)
    assert torch.equal(torch.get_rng_state(), before), "training would go on otherwise"
    torch.manual_seed(2)
    assert sample_ids(model, EOS_ID, 40, 1.0, seed=1) == first
    assert sample_ids(model, EOS_ID, 40, 1.0, seed=2) != first


def test_leaves_no_gradients() -> None:
    model = always_next()
    sample_ids(model, EOS_ID, 3, 1.0, seed=1)
    assert model.log_table.grad is None


def random_scores(seed: int, size: int = 50) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(size, generator=generator) * 2).double().log_softmax(0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top_k", [1, 3, 49, 50, 1000])
def test_top_k_keeps_the_k_likeliest_in_their_proportions(seed: int, top_k: int) -> None:
    scores = random_scores(seed)
    probs = Sampling(top_k=top_k).probs(scores)
    kept = probs > 0
    assert kept.sum() == min(top_k, 50)
    assert kept.all() or scores[kept].min() > scores[~kept].max()
    torch.testing.assert_close(probs[kept], scores[kept].softmax(0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.9, 0.999, 1.0])
def test_top_p_keeps_the_fewest_tokens_with_this_mass(seed: int, top_p: float) -> None:
    scores = random_scores(seed)
    probs = Sampling(top_p=top_p).probs(scores)
    kept = probs > 0
    mass = float(scores[kept].exp().sum())
    assert mass >= top_p - 1e-9
    assert mass - float(scores[kept].exp().min()) < top_p, "one token less would have been enough"
    assert kept.all() or scores[kept].min() > scores[~kept].max()
    torch.testing.assert_close(probs[kept], scores[kept].softmax(0))


def test_top_k_comes_before_top_p() -> None:
    scores = torch.tensor([0.4, 0.3, 0.2, 0.1]).double().log()
    # Of the three likeliest, 0.4 / 0.9 are not yet half of the mass.
    probs = Sampling(top_k=3, top_p=0.5).probs(scores)
    torch.testing.assert_close(probs, torch.tensor([4 / 7, 3 / 7, 0, 0]).double())


def test_equal_tokens_are_kept_in_the_order_of_their_ids() -> None:
    scores = torch.zeros(6).double()
    assert Sampling(top_k=2).probs(scores).tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert Sampling(top_p=0.5).probs(scores).count_nonzero() == 3
    assert Sampling(temperature=0).probs(scores).tolist() == [1, 0, 0, 0, 0, 0]


def test_what_may_not_be_drawn_stays_so() -> None:
    scores = torch.tensor([-torch.inf, -1.0, -torch.inf, -2.0])
    for sampling in (Sampling(), Sampling(top_p=0.999), Sampling(3.0, 4), Sampling(0.0)):
        probs = sampling.probs(scores, used=[0, 1])
        assert probs[0] == probs[2] == 0
        assert float(probs.sum()) == pytest.approx(1)


def test_the_penalty_raises_probabilities_to_a_power() -> None:
    p = torch.tensor([0.5, 0.25, 0.25]).double()
    probs = Sampling(repetition_penalty=2.0).probs(p.log(), used={0})
    torch.testing.assert_close(probs, torch.tensor([1 / 3, 1 / 3, 1 / 3]).double())
    torch.testing.assert_close(Sampling(repetition_penalty=2.0).probs(p.log()), p)


def test_a_temperature_and_no_temperature() -> None:
    scores = random_scores(1)
    expected = scores.exp() ** 2 / (scores.exp() ** 2).sum()
    torch.testing.assert_close(Sampling(temperature=0.5).probs(scores), expected)
    assert Sampling(temperature=0).probs(scores).argmax() == scores.argmax()


def test_no_sentence_ends_where_it_begins() -> None:
    scores = torch.zeros(V).log_softmax(0)
    assert mask_banned(scores)[EOS_ID] > -torch.inf
    begun = mask_banned(scores, begins=True)
    assert (begun == -torch.inf).nonzero()[:, 0].tolist() == [PAD_ID, UNK_ID, BOS_ID, EOS_ID]
    nothing = torch.full((V,), -torch.inf)
    assert mask_banned(nothing, begins=True).exp().tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


def test_single_sentences_begin_afresh_behind_an_end() -> None:
    model = Bigrams(torch.ones(V, V))
    ids, state = torch.tensor([4, EOS_ID, 5]), (torch.tensor([[7.0], [8.0], [9.0]]),)
    _, (stream,) = next_step(model, ids, state, EOS_ID)
    assert stream.flatten().tolist() == [8, 9, 10] and model.seen[-1] == (4, 7)
    _, (fresh,) = next_step(model, ids, state, BOS_ID)
    assert fresh.flatten().tolist() == [8, 1, 10]
    next_step(model, ids[1:2], (state[0][1:2],), BOS_ID)
    assert model.seen[-1] == (BOS_ID, 0)


def test_a_temperature_near_nothing_takes_the_likeliest() -> None:
    scores = torch.tensor([0.2, 0.5, 0.3]).log()
    assert Sampling(temperature=1e-310).probs(scores).tolist() == [0.0, 1.0, 0.0]
