"""The number of threads depends on the size of an operation and does not change results."""

from collections.abc import Iterator

import pytest
import torch
from model_cases import make_model
from torch import Tensor

from korlm.models.base import LanguageModel
from korlm.utils import threads

MOST = 4


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "_fewest", 0)
    monkeypatch.setattr(threads, "_most", 0)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_resources_are_divided_only_on_request() -> None:
    torch.set_num_threads(3)
    with threads.matmul_threads(1 << 60), threads.elementwise_threads(1 << 60):
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("step", "count"), [(0, 1), (1, 1), (3_000_001, 2), (1 << 60, MOST)])
def test_recurrent_steps(step: int, count: int) -> None:
    threads.configure_threads(MOST, step)
    assert torch.get_num_threads() == count


def test_all_cores_but_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_TORCH_DEFAULT", 6)
    monkeypatch.setattr(threads, "available_cores", lambda: 5)
    threads.configure_threads(None, 1 << 60)
    assert torch.get_num_threads() == 5


def test_large_operations_have_more_as_long_as_they_last() -> None:
    threads.configure_threads(MOST, 0)
    with threads.matmul_threads(2 * threads.PRODUCT):
        assert torch.get_num_threads() == 2
        with threads.elementwise_threads(100 * threads.PASS):
            assert torch.get_num_threads() == MOST
            with threads.matmul_threads(1):
                assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1
    with pytest.raises(KeyError), threads.matmul_threads(1 << 60):
        raise KeyError
    assert torch.get_num_threads() == 1


def test_nothing_has_less_than_a_recurrent_step() -> None:
    threads.configure_threads(MOST, 1 << 60)
    with threads.elementwise_threads(1):
        assert torch.get_num_threads() == MOST


@pytest.mark.parametrize("option", ["plain", "adaptive", "spelling_adaptive"])
def test_the_number_of_threads_changes_no_number(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("lstm", option)
    ids = torch.randint(4, model.vocab_size, (6, 9))
    monkeypatch.setattr(threads, "PRODUCT", 1)  # otherwise all would be too small to be divided
    monkeypatch.setattr(threads, "PASS", 1)

    def gradients(most: int) -> list[Tensor]:
        threads.configure_threads(most, 1 << 60)
        return _gradients(model, ids)

    for alone, shared in zip(gradients(1), gradients(MOST), strict=True):
        torch.testing.assert_close(alone, shared, rtol=1e-5, atol=1e-6)


def _gradients(model: LanguageModel, ids: Tensor) -> list[Tensor]:
    model.zero_grad()
    _, loss, _ = model.training_loss(ids[:, :-1], ids[:, 1:])
    loss.backward()  # type: ignore[no-untyped-call]
    return [loss, *(p.grad for p in model.parameters() if p.grad is not None)]
