"""Dynamic evaluation by its formula; and nothing is left of it afterwards."""

from __future__ import annotations

import pytest
import torch
from model_cases import make_model
from texts import nats_in, random_text

from korlm.dataset.vocab import EOS_ID
from korlm.evaluation.dynamic_evaluation import DynamicEvaluation
from korlm.evaluation.token_scores import score_continuous
from korlm.models.base import LanguageModel
from korlm.modules.state import detach_state

KINDS = [("lstm", "tied"), ("gru", "learned_state"), ("pairs", "plain")]


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(kind))
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return make_model(*request.param)


def parameters(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_untouched(model: LanguageModel, before: dict[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.grad is None
        assert parameter.requires_grad


def test_rate_0_is_the_carried_state(model: LanguageModel) -> None:
    text = random_text(30)
    dynamic = DynamicEvaluation(model, random_text(40, seed=1), segment=7, tokens=40)
    torch.testing.assert_close(
        nats_in(dynamic.read(text, 0.0, 0.5)), nats_in(score_continuous(model, text))
    )


def test_the_model_is_left_as_it_was(model: LanguageModel) -> None:
    before = parameters(model)
    dynamic = DynamicEvaluation(model, random_text(40, seed=1), segment=5, tokens=40)
    assert_untouched(model, before)
    first = nats_in(dynamic.read(random_text(30), 0.05, 0.01))
    assert_untouched(model, before)
    torch.testing.assert_close(
        nats_in(dynamic.read(random_text(30), 0.05, 0.01)), first, rtol=0, atol=0
    )
    half = dynamic.read(random_text(30), 0.05, 0.01)
    next(half), next(half)
    half.close()
    assert_untouched(model, before)
    nats_in(dynamic.read(random_text(30), 1e30, 0.01))
    assert_untouched(model, before)


def test_it_learns_what_comes_again(model: LanguageModel) -> None:
    text = random_text(200)
    text.ids[:] = [4, 5, 6, 7, EOS_ID] * 40
    dynamic = DynamicEvaluation(model, random_text(100, seed=1), segment=5, tokens=100)
    found = nats_in(dynamic.read(text, 0.02, 0.0))
    assert found[-50:].mean() < nats_in(score_continuous(model, text))[-50:].mean() - 0.5


def test_the_update_is_that_of_the_paper() -> None:
    segment, rate, decay = 5, 0.03, 0.2
    model, train, text = make_model("gru", "tied"), random_text(23, seed=1), random_text(30)
    named = list(model.named_parameters())

    def gradients(windows: list, upto: int) -> list[list[torch.Tensor]]:
        """Of the mean losses of the first segments, the parameters as they are."""
        state, found = None, []
        for inputs, targets in windows[:upto]:
            nats, state = model.token_nll(inputs, targets, state)
            found.append(torch.autograd.grad(nats.mean(), [p for _, p in named]))
            state = detach_state(state)
        return found

    all_train = gradients(list(train.windows(segment)), 99)
    rms = [torch.stack([g[k] ** 2 for g in all_train]).mean(0).sqrt() for k in range(len(named))]
    mean = sum(part.sum() for part in rms) / sum(part.numel() for part in rms)
    origin = [p.detach().clone() for _, p in named]

    dynamic = DynamicEvaluation(model, train, segment, tokens=23)
    reading = dynamic.read(text, rate, decay)
    next(reading)
    (step,) = gradients(list(text.windows(segment)), 1)
    expected = [
        p.detach() - rate * g / (r + mean) for (_, p), g, r in zip(named, step, rms, strict=False)
    ]
    expected = [
        p + (decay * r / mean).clamp(max=1) * (o - p)
        for p, o, r in zip(expected, origin, rms, strict=False)
    ]
    next(reading)
    for (name, parameter), value in zip(named, expected, strict=False):
        torch.testing.assert_close(parameter.detach(), value, msg=name)
    reading.close()


def test_a_part_of_the_text() -> None:
    model, text = make_model("lstm"), random_text(30)
    dynamic = DynamicEvaluation(model, text, segment=4, tokens=12)
    whole = nats_in(dynamic.read(text, 0.05, 0.1))
    part = nats_in(dynamic.read(text, 0.05, 0.1, end=12))
    torch.testing.assert_close(part, whole[:12], rtol=0, atol=0)
