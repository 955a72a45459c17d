"""Device and precision of a run."""

from __future__ import annotations

import pytest
import torch

from korlm.config import Device, Precision, TrainerConfig
from korlm.runs import device
from korlm.runs.device import choose_device, training_device, uses_bf16
from korlm.utils.dist_env import Rank
from korlm.utils.errors import ConfigError
from korlm.utils.torch_backend import tf32


def no_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("device", [Device.cuda, Device.mps])
def test_an_unavailable_device(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    no_accelerators(monkeypatch)
    with pytest.raises(ConfigError, match=rf"^trainer\.device={device.value}: .*=auto") as caught:
        choose_device(TrainerConfig(device=device))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "cuda, mps, expected", [(1, 1, "cuda"), (1, 0, "cuda"), (0, 1, "mps"), (0, 0, "cpu")]
)
def test_auto_takes_the_best_device(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: int, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    assert choose_device(TrainerConfig(device=Device.auto)).type == expected
    assert choose_device(TrainerConfig(device=Device.cpu)).type == "cpu"


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_a_precision_by_name_is_used(name: str) -> None:
    for precision, expected in ((Precision.bf16, True), (Precision.fp32, False)):
        config = TrainerConfig(precision=precision)
        assert uses_bf16(config, torch.device(name)) is expected


@pytest.mark.parametrize("avx512, amx", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("onednn", [True, False])
def test_auto_precision_of_a_cpu(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool, onednn: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    # False with ONEDNN_MAX_CPU_ISA=AVX2, which the functions above do not know.
    monkeypatch.setattr(device, "lstm_runs_in_bf16", lambda: onednn)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    config = TrainerConfig(precision=Precision.auto)
    assert uses_bf16(config, torch.device("cpu")) is ((avx512 or amx) and onednn)


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(
    ("isa", "expected"),
    [("AVX2", False), ("avx512_core", False), ("AVX512_CORE_BF16", True), ("ALL", True)],
)
def test_auto_precision_with_a_limit_on_the_instructions_of_onednn(
    monkeypatch: pytest.MonkeyPatch, name: str, isa: str, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(device, "lstm_runs_in_bf16", lambda: True)
    for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, isa)
    config = TrainerConfig(precision=Precision.auto)
    assert uses_bf16(config, torch.device("cpu")) is expected


def test_auto_precision_without_the_private_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert uses_bf16(TrainerConfig(precision=Precision.auto), torch.device("cpu")) is False


@pytest.mark.parametrize("capability, expected", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_auto_precision_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    config = TrainerConfig(precision=Precision.auto)
    assert uses_bf16(config, torch.device("cuda")) is expected


def test_mps_stays_in_fp32() -> None:
    mps = torch.device("mps")
    assert uses_bf16(TrainerConfig(precision=Precision.auto), mps) is False
    with pytest.raises(ConfigError, match=r"^trainer\.precision=bf16: not supported on MPS"):
        uses_bf16(TrainerConfig(precision=Precision.bf16), mps)


def cuda_of(monkeypatch: pytest.MonkeyPatch, gpus: int) -> list[object]:
    """Simulate a number of GPUs; return a list that records the selected ones."""
    chosen: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


def test_each_process_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = cuda_of(monkeypatch, 2)
    second = Rank(rank=3, size=4, local_rank=1, local_size=2)
    assert training_device(TrainerConfig(device=Device.auto), second) == torch.device("cuda", 1)
    assert chosen == [torch.device("cuda", 1)]
    assert training_device(TrainerConfig(device=Device.cuda), Rank()) == torch.device("cuda")
    assert training_device(TrainerConfig(device=Device.cpu), second) == torch.device("cpu")


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_of(monkeypatch, 1)
    rank = Rank(rank=0, size=2, local_rank=0, local_size=2)
    with pytest.raises(ConfigError, match=r"2 processes on this machine but 1 cuda .*node 1"):
        training_device(TrainerConfig(device=Device.cuda), rank)


def flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_tf32_is_restored() -> None:
    before = flags()
    with tf32(True):
        assert flags() == (True, True)
        with tf32(False):
            assert flags() == (False, False)
        assert flags() == (True, True)
    assert flags() == before
    with pytest.raises(ZeroDivisionError), tf32(not before[0]):
        raise ZeroDivisionError
    assert flags() == before


def test_tf32_of_two_threads() -> None:
    """Blocks that overlap, but do not enclose each other, as those of two threads."""
    before = flags()
    first, second, third = tf32(True), tf32(False), tf32(False)
    for block, expected in ((first, True), (second, False), (third, False)):
        block.__enter__()
        assert flags() == (expected, expected)
    second.__exit__(None, None, None)
    assert flags() == (False, False)
    first.__exit__(None, None, None)
    assert flags() == (False, False)
    third.__exit__(None, None, None)
    assert flags() == before
