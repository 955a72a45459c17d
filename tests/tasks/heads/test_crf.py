"""The CRF against enumeration of all label sequences."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from korlm.tasks.heads.crf import AllowedTransitions, LinearChainCRF

LENGTHS = torch.tensor([4, 1, 3])
LABELS = 3
ALLOWED = AllowedTransitions(
    torch.tensor([True, True, False]),
    torch.tensor([[True, True, False], [True, True, True], [True, False, True]]),
    torch.tensor([True, False, True]),
)


@pytest.fixture(params=[None, ALLOWED], ids=["free", "constrained"])
def crf(request: pytest.FixtureRequest) -> LinearChainCRF:
    torch.manual_seed(1)
    crf = LinearChainCRF(LABELS, request.param)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    return crf


@pytest.fixture
def emissions() -> Tensor:
    return torch.randn(3, 4, LABELS, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def sequences(crf: LinearChainCRF, steps: Tensor) -> dict[tuple[int, ...], float]:
    """Return the score of every allowed label sequence of one row (T, L)."""
    scores = {}
    for labels in itertools.product(range(LABELS), repeat=len(steps)):
        score = crf.start[labels[0]] + crf.end[labels[-1]]
        forbidden = float(crf.start_penalty[labels[0]] + crf.end_penalty[labels[-1]])
        for t, label in enumerate(labels):
            score = score + steps[t, label]
            if t:
                score = score + crf.transitions[labels[t - 1], label]
                forbidden += float(crf.transitions_penalty[labels[t - 1], label])
        if not forbidden:
            scores[labels] = float(score)
    return scores


def test_log_partition_and_nll(crf: LinearChainCRF, emissions: Tensor) -> None:
    partition = crf.log_partition(emissions, LENGTHS)
    labels = torch.zeros(3, 4, dtype=torch.long)
    expected = 0.0
    for row, length in enumerate(LENGTHS.tolist()):
        scores = sequences(crf, emissions[row, :length])
        total = torch.logsumexp(torch.tensor(list(scores.values())), 0)
        torch.testing.assert_close(partition[row], total)
        gold = list(scores)[len(scores) // 2]
        labels[row, :length] = torch.tensor(gold)
        expected += float(total) - scores[gold]
    nll = crf.nll(emissions, labels, LENGTHS).sum()
    torch.testing.assert_close(nll, torch.tensor(expected))
    nll.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in crf.parameters())


def test_log_prob(crf: LinearChainCRF, emissions: Tensor) -> None:
    allowed = torch.rand(emissions.shape, generator=torch.Generator().manual_seed(3)) < 0.7
    allowed[..., 0] = True
    result = crf.log_prob(emissions, LENGTHS, allowed)
    for row, length in enumerate(LENGTHS.tolist()):
        scores = sequences(crf, emissions[row, :length])
        total = torch.logsumexp(torch.tensor(list(scores.values())), 0)
        some = [
            score
            for labels, score in scores.items()
            if all(allowed[row, t, label] for t, label in enumerate(labels))
        ]
        expected = torch.logsumexp(torch.tensor(some), 0) - total
        torch.testing.assert_close(result[row], expected)


def test_marginals(crf: LinearChainCRF, emissions: Tensor) -> None:
    with torch.inference_mode():
        marginals = crf.marginals(emissions * 1.0, LENGTHS * 1)
    for row, length in enumerate(LENGTHS.tolist()):
        scores = sequences(crf, emissions[row, :length])
        total = torch.logsumexp(torch.tensor(list(scores.values())), 0)
        expected = torch.zeros(4, LABELS)
        for labels, score in scores.items():
            for t, label in enumerate(labels):
                expected[t, label] += float((score - total).exp())
        torch.testing.assert_close(marginals[row], expected)


def test_decode(crf: LinearChainCRF, emissions: Tensor) -> None:
    decoded = crf.decode(emissions, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        scores = sequences(crf, emissions[row, :length])
        best = max(scores, key=scores.__getitem__)
        assert decoded[row].tolist() == [*best, *[0] * (4 - length)]


def test_padding_and_order_change_nothing(crf: LinearChainCRF, emissions: Tensor) -> None:
    garbage = emissions.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        garbage[row, length:] = 50.0
    order = torch.tensor([2, 0, 1])
    for name in ("log_partition", "marginals", "decode"):
        method = getattr(crf, name)
        expected = method(emissions, LENGTHS)
        torch.testing.assert_close(method(garbage, LENGTHS), expected)
        torch.testing.assert_close(method(emissions[order], LENGTHS[order]), expected[order])


def test_one_position(crf: LinearChainCRF) -> None:
    emissions = torch.zeros(2, 1, LABELS)
    assert crf.decode(emissions, torch.tensor([1, 1])).shape == (2, 1)
    nll = crf.nll(emissions, torch.zeros(2, 1, dtype=torch.long), torch.tensor([1, 1])).sum()
    assert nll.shape == () and nll >= 0
