"""The contract of all language models."""

from __future__ import annotations

import io

import pytest
import torch
from model_cases import COUNTED, DROPOUTS, TRAINED, VOCAB_SIZE, make_model
from torch import Tensor

from korlm.models.base import LanguageModel
from korlm.models.neural import NeuralLM
from korlm.modules.base import State, detach_state
from korlm.modules.subword_embedding import SubwordEmbedding

B, T, V = 4, 6, VOCAB_SIZE
LENGTHS = torch.tensor([6, 4, 2, 1])
PAD_ID, BOS_ID = 0, 2
CLOSE = {"atol": 2e-6, "rtol": 2e-5}

# Every registered model is tested: see ``model_cases``.
CASES = TRAINED + COUNTED


@pytest.fixture(params=CASES, ids=["-".join(case) for case in CASES])
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Return a kind of model and the name of its options."""
    return request.param


@pytest.fixture
def model(case: tuple[str, str]) -> LanguageModel:
    """Return the model of the case in evaluation mode."""
    return make_model(*case)


@pytest.fixture(params=TRAINED, ids=["-".join(case) for case in TRAINED])
def trained(request: pytest.FixtureRequest) -> LanguageModel:
    """Return a model that is trained by gradients, in evaluation mode."""
    return make_model(*request.param)


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    """Return ids without <pad>."""
    return torch.randint(1, V, shape, generator=torch.Generator().manual_seed(seed))


def ragged() -> tuple[Tensor, Tensor]:
    """Return inputs and targets (B, T) of LENGTHS, padded with <pad>."""
    behind = torch.arange(T) >= LENGTHS[:, None]
    inputs, targets = random_ids(B, T, seed=1), random_ids(B, T, seed=2)
    targets = targets.where(targets != BOS_ID, 1)  # <bos> is never a target
    return inputs.masked_fill(behind, PAD_ID), targets.masked_fill(behind, PAD_ID)


def midway_state(model: LanguageModel, batch_size: int = B) -> State:
    """Return a state in the middle of a text, different in every row."""
    return detach_state(model.log_probs(random_ids(batch_size, 3, seed=3))[1])


def assert_states_close(actual: State, expected: State) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_probabilities_sum_to_one(model: LanguageModel) -> None:
    log_probs, _ = model.log_probs(random_ids(B, T))
    assert log_probs.shape == (B, T, V) == (B, T, model.vocab_size)
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(B, T))


def test_advance_returns_the_state_of_log_probs(model: LanguageModel) -> None:
    inputs, before = random_ids(B, T), midway_state(model)
    assert_states_close(model.advance(inputs, before), model.log_probs(inputs, before)[1])
    assert_states_close(model.advance(inputs), model.log_probs(inputs)[1])


def test_inference_copy_is_equal_and_independent(model: LanguageModel) -> None:
    inputs = random_ids(B, T)
    expected = model.log_probs(inputs)[0]
    inference_copy = model.inference_copy()
    assert not inference_copy.training and not any(
        p.requires_grad for p in inference_copy.parameters()
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(inference_copy.log_probs(inputs)[0], expected, **CLOSE)


@pytest.mark.parametrize("option", ["spelling_both", "spelling_input", "spelling_adaptive"])
def test_inference_copy_has_no_subwords(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inference_copy = make_model("lstm", option).inference_copy()
    monkeypatch.setattr(SubwordEmbedding, "forward", None)
    monkeypatch.setattr(SubwordEmbedding, "for_tokens", None)
    inference_copy.step(torch.tensor([4]), inference_copy.initial_state(1))


def test_inputs_matter(model: LanguageModel) -> None:
    """A model that ignores its inputs would pass most other tests."""
    inputs = random_ids(B, T)
    changed = inputs.clone()
    changed[:, 2] = changed[:, 2] % (V - 1) + 1
    # Tokens of probability 0 have -inf in both, and the difference of those is NaN.
    before, after = (model.log_probs(ids)[0].clamp_min(-99) for ids in (inputs, changed))
    assert ((before - after).abs().amax(-1) > 1e-4)[:, 2].all()
    assert not torch.allclose(before[:, 3:], after[:, 3:], atol=1e-4)


def test_no_state_means_initial_state(model: LanguageModel) -> None:
    inputs, state = random_ids(B, T), model.initial_state(B)
    assert isinstance(state, tuple) and all(part.shape[0] == B for part in state)
    expected = model.log_probs(inputs, state)[0]
    torch.testing.assert_close(model.log_probs(inputs)[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "midway"])
def test_step_by_step_equals_at_once(model: LanguageModel, fresh: bool) -> None:
    inputs = random_ids(B, T)
    state = model.initial_state(B) if fresh else midway_state(model)
    at_once, after = model.log_probs(inputs, state)
    for t in range(T):
        log_probs, state = model.step(inputs[:, t], state)
        assert log_probs.shape == (B, V)
        torch.testing.assert_close(log_probs, at_once[:, t], **CLOSE)
    assert_states_close(state, after)


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_state_carries_over(model: LanguageModel, cut: int) -> None:
    inputs = random_ids(B, T)
    whole, end = model.log_probs(inputs)
    first, state = model.log_probs(inputs[:, :cut])
    second, result = model.log_probs(inputs[:, cut:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, **CLOSE)
    assert_states_close(result, end)


def test_future_tokens_do_not_matter(model: LanguageModel) -> None:
    inputs = random_ids(B, T)
    before = model.log_probs(inputs)[0]
    for t in range(T - 1):
        changed = inputs.clone()
        changed[:, t + 1 :] = random_ids(B, T - t - 1, seed=100 + t)
        after = model.log_probs(changed)[0]
        torch.testing.assert_close(after[:, : t + 1], before[:, : t + 1], **CLOSE)


def test_model_keeps_no_state(model: LanguageModel) -> None:
    inputs = random_ids(B, T)
    state = midway_state(model)
    copy = tuple(part.clone() for part in state)
    first = model.log_probs(inputs, state)[0]
    model.log_probs(random_ids(B, T, seed=9))
    second = model.log_probs(inputs, state)[0]
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    for part, before in zip(state, copy, strict=True):
        torch.testing.assert_close(part, before, rtol=0, atol=0)


def test_states_can_be_reordered(model: LanguageModel) -> None:
    """Rows of a state are selected, duplicated and dropped, as in beam search."""
    state, rows = midway_state(model), torch.tensor([2, 0, 2])
    inputs = random_ids(B, T)
    chosen, _ = model.log_probs(inputs[rows], tuple(part[rows] for part in state))
    torch.testing.assert_close(chosen, model.log_probs(inputs, state)[0][rows], **CLOSE)


@pytest.mark.parametrize("lengths", [LENGTHS, None], ids=["lengths", "no_lengths"])
def test_token_nll_equals_log_probs_of_targets(
    model: LanguageModel, lengths: Tensor | None
) -> None:
    inputs, targets = ragged()
    state = midway_state(model)
    log_probs, after = model.log_probs(inputs, state, lengths)
    nats, actual = model.token_nll(inputs, targets, state, lengths)
    assert nats.shape == (B, T)
    assert nats.dtype == torch.float32
    for b in range(B):
        for t in range(T):
            expected = -log_probs[b, t, targets[b, t]] if t < LENGTHS[b] else torch.tensor(0.0)
            torch.testing.assert_close(nats[b, t], expected, **CLOSE)
    assert_states_close(actual, after)


def test_encode_and_nll_equals_token_nll(model: LanguageModel) -> None:
    if not isinstance(model, NeuralLM):
        pytest.skip("not a neural model")
    inputs, targets = ragged()
    state = midway_state(model)
    hidden, actual, after = model.encode_and_nll(inputs, targets, state, LENGTHS)
    expected, end = model.token_nll(inputs, targets, state, LENGTHS)
    assert hidden.shape[:2] == (B, T)
    torch.testing.assert_close(actual, expected, **CLOSE)
    assert_states_close(after, end)
    matrix = model.embedding.output_weight()
    again = model.output.token_nll(hidden.flatten(0, 1), targets.flatten(), matrix)
    torch.testing.assert_close(again.view(B, T), expected, **CLOSE)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_training_loss_is_the_sum_of_token_nll(case: tuple[str, str], training: bool) -> None:
    no_dropout = dict.fromkeys(DROPOUTS, 0.0)
    model = make_model(*case, **(no_dropout if training else {})).train(training)
    inputs, targets = ragged()
    state = midway_state(model)
    nats, after = model.token_nll(inputs, targets, state, LENGTHS)
    _, loss, result = model.training_loss(inputs, targets, state, LENGTHS)
    assert loss.shape == ()
    torch.testing.assert_close(loss, nats.sum(), **CLOSE)
    assert_states_close(result, after)


@pytest.mark.parametrize("with_lengths", [True, False])
def test_extra_padding_changes_nothing(model: LanguageModel, with_lengths: bool) -> None:
    inputs, targets = ragged()
    lengths = LENGTHS if with_lengths else None
    wider = torch.zeros(B, 3, dtype=torch.int64)
    _, loss, state = model.training_loss(inputs, targets, None, lengths)
    _, padded, after = model.training_loss(
        torch.cat([inputs, wider], 1), torch.cat([targets, wider], 1), None, lengths
    )
    torch.testing.assert_close(padded, loss, **CLOSE)
    if with_lengths:
        assert_states_close(after, state)


def test_padding_ids_do_not_matter(model: LanguageModel) -> None:
    inputs, targets = ragged()
    other = torch.where(inputs == PAD_ID, random_ids(B, T, seed=5), inputs)
    expected, state = model.token_nll(inputs, targets, None, LENGTHS)
    actual, after = model.token_nll(other, targets, None, LENGTHS)
    torch.testing.assert_close(actual, expected, **CLOSE)
    assert_states_close(after, state)


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [1, 3, 0, 2]])
def test_batch_order_does_not_matter(model: LanguageModel, order: list[int]) -> None:
    """Lengths need not be sorted."""
    inputs, targets = ragged()
    state = midway_state(model)
    _, loss, after = model.training_loss(inputs, targets, state, LENGTHS)
    _, turned, result = model.training_loss(
        inputs[order], targets[order], tuple(part[order] for part in state), LENGTHS[order]
    )
    torch.testing.assert_close(turned, loss, **CLOSE)
    assert_states_close(result, tuple(part[order] for part in after))


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "midway"])
def test_a_row_in_a_batch_equals_the_row_alone(model: LanguageModel, fresh: bool) -> None:
    inputs, targets = ragged()
    state = model.initial_state(B) if fresh else midway_state(model)
    nats, after = model.token_nll(inputs, targets, state, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        alone, end = model.token_nll(
            inputs[b : b + 1, :length],
            targets[b : b + 1, :length],
            tuple(part[b : b + 1] for part in state),
        )
        torch.testing.assert_close(nats[b, :length], alone[0], **CLOSE)
        assert_states_close(tuple(part[b : b + 1] for part in after), end)


def test_save_and_load(case: tuple[str, str]) -> None:
    model, other = make_model(*case, seed=1), make_model(*case, seed=2)
    inputs = random_ids(B, T)
    expected = model.log_probs(inputs)[0]
    assert not torch.allclose(other.log_probs(inputs)[0], expected, atol=1e-3)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(other.log_probs(inputs)[0], expected, rtol=0, atol=0)


# --- gradients ----------------------------------------------------------


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "midway"])
def test_gradients_equal_those_of_log_probs(trained: LanguageModel, fresh: bool) -> None:
    inputs, targets = ragged()
    state = None if fresh else midway_state(trained)

    def gradients(loss: Tensor) -> dict[str, Tensor]:
        trained.zero_grad(set_to_none=True)
        loss.backward()
        return {
            name: p.grad.clone() for name, p in trained.named_parameters() if p.grad is not None
        }

    log_probs, _ = trained.log_probs(inputs, state, LENGTHS)
    picked = log_probs.gather(2, targets[..., None])[..., 0]
    expected = gradients(-picked[targets != PAD_ID].sum())
    actual = gradients(trained.training_loss(inputs, targets, state, LENGTHS).nll)
    assert actual.keys() == expected.keys()
    unused = {n for n, _ in trained.named_parameters() if fresh or not n.endswith(".initial")}
    assert actual.keys() == unused  # all but the initial state, if another one was given
    for name, gradient in actual.items():
        assert gradient.abs().max() > 1e-4, f"{name} does not affect the loss"
        torch.testing.assert_close(gradient, expected[name], atol=2e-5, rtol=2e-4)


def test_gradients_flow_back_into_the_state(trained: LanguageModel) -> None:
    inputs, targets = ragged()
    state = midway_state(trained)
    floating = [part.requires_grad_() for part in state if part.is_floating_point()]
    trained.training_loss(inputs, targets, state, LENGTHS).nll.backward()
    for part in floating:
        assert part.grad is not None
        assert part.grad.abs().max() > 1e-5


def test_detach_state(trained: LanguageModel) -> None:
    _, state = trained.log_probs(random_ids(B, T))
    assert all(part.requires_grad for part in state if part.is_floating_point())
    cut = detach_state(state)
    assert not any(part.requires_grad for part in cut)
    assert_states_close(cut, state)


@pytest.mark.parametrize("with_lengths", [True, False])
def test_entropy_equals_that_of_log_probs(
    model: LanguageModel, with_lengths: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("korlm.models.base.ENTROPY_BLOCK", 3 * V)
    monkeypatch.setattr("korlm.modules.fused_cross_entropy.BLOCK", 2 * V)
    (inputs, targets), state = ragged(), midway_state(model)
    lengths = LENGTHS if with_lengths else None
    nats, entropy, after = model.token_nll_and_entropy(inputs, targets, state, lengths)
    expected, expected_after = model.token_nll(inputs, targets, state, lengths)
    torch.testing.assert_close(nats, expected, **CLOSE)
    assert_states_close(after, expected_after)
    p = model.log_probs(inputs, state, lengths)[0].double().exp()
    real = targets != PAD_ID
    exact = -torch.special.xlogy(p, p).sum(-1).float()
    torch.testing.assert_close(entropy[real], exact[real], **CLOSE)
