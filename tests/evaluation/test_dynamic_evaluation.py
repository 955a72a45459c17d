"""Updates follow the formula, and the trained parameters are restored."""

from __future__ import annotations

import pytest
import torch
from model_cases import make_model
from texts import nats_in, random_ids

from korlm.dataset.vocab import EOS_ID
from korlm.evaluation.dynamic_evaluation import DynamicEvaluation
from korlm.evaluation.token_scores import score_continuous, stream_windows
from korlm.models.base import LanguageModel
from korlm.modules.base import detach_state

CPU = torch.device("cpu")
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
    text = random_ids(30)
    dynamic = DynamicEvaluation(model, random_ids(40, seed=1), EOS_ID, 7, 40)
    torch.testing.assert_close(
        nats_in(dynamic.score(text, 0.0, 0.5)), nats_in(score_continuous(model, text, EOS_ID))
    )


def test_the_trained_parameters_are_restored(model: LanguageModel) -> None:
    before = parameters(model)
    dynamic = DynamicEvaluation(model, random_ids(40, seed=1), EOS_ID, 5, 40)
    assert_untouched(model, before)
    first = nats_in(dynamic.score(random_ids(30), 0.05, 0.01))
    assert_untouched(model, before)
    torch.testing.assert_close(
        nats_in(dynamic.score(random_ids(30), 0.05, 0.01)), first, rtol=0, atol=0
    )
    half = dynamic.score(random_ids(30), 0.05, 0.01)
    next(half), next(half)
    half.close()
    assert_untouched(model, before)
    nats_in(dynamic.score(random_ids(30), 1e30, 0.01))
    assert_untouched(model, before)


def test_repetitions_are_learned(model: LanguageModel) -> None:
    text = random_ids(200)
    text[:] = [4, 5, 6, 7, EOS_ID] * 40
    dynamic = DynamicEvaluation(model, random_ids(100, seed=1), EOS_ID, 5, 100)
    adapted = nats_in(dynamic.score(text, 0.02, 0.0))
    assert adapted[-50:].mean() < nats_in(score_continuous(model, text, EOS_ID))[-50:].mean() - 0.5


def test_the_update_is_that_of_the_paper() -> None:
    segment, rate, decay = 5, 0.03, 0.2
    model, train, text = make_model("gru", "tied"), random_ids(23, seed=1), random_ids(30)
    named = list(model.named_parameters())

    def gradients(segments: list, upto: int) -> list[list[torch.Tensor]]:
        """Return the gradients of the mean losses of the first segments."""
        state, rows = None, []
        for inputs, targets in segments[:upto]:
            nats, state = model.token_nll(inputs, targets, state)
            rows.append(torch.autograd.grad(nats.mean(), [p for _, p in named]))
            state = detach_state(state)
        return rows

    all_train = gradients(list(stream_windows(train, EOS_ID, segment, CPU)), 99)
    rms = [torch.stack([g[k] ** 2 for g in all_train]).mean(0).sqrt() for k in range(len(named))]
    mean = sum(part.sum() for part in rms) / sum(part.numel() for part in rms)
    origin = [p.detach().clone() for _, p in named]

    dynamic = DynamicEvaluation(model, train, EOS_ID, segment, 23)
    windows = dynamic.score(text, rate, decay)
    next(windows)
    (step,) = gradients(list(stream_windows(text, EOS_ID, segment, CPU)), 1)
    for number in range(2):
        before = [(p.detach().clone(), p.grad) for _, p in named]
        next(windows)  # the first update has no decay: it starts from the trained parameters
        for k, (name, parameter) in enumerate(named):
            old, gradient = before[k]
            if gradient is None:
                continue
            if number == 0:
                torch.testing.assert_close(gradient, step[k], msg=name)
            pull = (decay * rms[k] / mean).clamp(max=1) * (origin[k] - old)
            expected = old - rate * gradient / (rms[k] + mean) + pull
            torch.testing.assert_close(parameter.detach(), expected, msg=name)
    windows.close()


def test_a_part_of_the_text() -> None:
    model, text = make_model("lstm"), random_ids(30)
    dynamic = DynamicEvaluation(model, text, EOS_ID, 4, 12)
    whole = nats_in(dynamic.score(text, 0.05, 0.1))
    part = nats_in(dynamic.score(text[:12], 0.05, 0.1))
    torch.testing.assert_close(part, whole[:12], rtol=0, atol=0)
