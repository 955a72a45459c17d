"""Where a model runs, and how exactly it multiplies there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from korlm.config import Device, Precision, TrainerConfig, UseSettings
from korlm.errors import ConfigError
from korlm.models import threads
from korlm.training.distributed import Group


def choose_device(config: TrainerConfig, key: str = "trainer.device") -> torch.device:
    """The device of the settings; auto: CUDA, then MPS, then the CPU.

    Args:
        config: which device.
        key: what a command calls the setting.

    Raises:
        ConfigError: it was asked for by name and is not there.
    """
    there = {
        Device.cuda: torch.cuda.is_available(),
        Device.mps: torch.backends.mps.is_available(),
        Device.cpu: True,
    }
    if config.device is not Device.auto:
        if not there[config.device]:
            raise ConfigError(
                f"{key}={config.device.value}: PyTorch {torch.__version__} finds no such "
                f"device here; use {key}=auto, or KORLM_TORCH=cuda scripts/train for a "
                "build of PyTorch with CUDA"
            )
        return torch.device(config.device.value)
    return torch.device(next(device.value for device, is_there in there.items() if is_there))


def device_of(settings: UseSettings) -> torch.device:
    """Where a trained model is used; the CPU gets as many threads as the settings say.

    Raises:
        ConfigError: the device was asked for by name and is not there.
    """
    threads.share_out(settings.threads, 0)
    device = choose_device(TrainerConfig(device=settings.device), "device")
    # MPS has no float64, in which probabilities are summed.
    return torch.device("cpu") if device.type == "mps" else device


def uses_bf16(config: TrainerConfig, device: torch.device) -> bool:
    """Whether training runs in bf16; auto: where the processor or GPU multiplies it natively.

    Elsewhere bf16 is emulated and slower than fp32. MPS stays in fp32.
    """
    if config.precision is not Precision.auto:
        if config.precision is Precision.bf16 and device.type == "mps":
            raise ConfigError("trainer.precision=bf16: not on MPS; use trainer.precision=fp32")
        return config.precision is Precision.bf16
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, test, bool)() for test in tests)
    return False


def device_in(group: Group, config: TrainerConfig) -> torch.device:
    """The device of this process: each of several has a GPU of its own, or they share the CPU.

    Raises:
        ConfigError: more processes on this machine than GPUs.
    """
    device = choose_device(config)
    if group.is_alone or device.type == "cpu":
        return device
    there, wanted = torch.cuda.device_count() if device.type == "cuda" else 1, group.place
    if wanted.local_size > there:
        raise ConfigError(
            f"trainer.device={config.device.value}: {wanted.local_size} processes on this machine, "
            f"{there} of {device.type}: give torchrun --nproc-per-node {there}, or "
            "trainer.device=cpu"
        )
    device = torch.device(device.type, wanted.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def autocast(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager[Any]:
    """bf16 for matrix products and recurrent kernels, or nothing."""
    if not bf16:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether a GPU may round the factors of fp32 products to 10 bits, as long as this lasts.

    PyTorch lets recurrent layers do so unless it is told otherwise: good for training, but not for
    figures that are to be those of a CPU.
    """
    places: tuple[Any, Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = allowed
    try:
        yield
    finally:
        for place, was in zip(places, before, strict=True):
            place.allow_tf32 = was
