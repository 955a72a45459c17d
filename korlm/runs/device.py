"""Choose the device and the precision with which a model is trained or used."""

from __future__ import annotations

import os

import torch

from korlm.config import Device, InferenceSettings, Precision, TrainerConfig
from korlm.modules.rnn import lstm_runs_in_bf16
from korlm.utils import threads
from korlm.utils.dist_env import Rank
from korlm.utils.errors import ConfigError


def choose_device(config: TrainerConfig, key: str = "trainer.device") -> torch.device:
    """Return the device of the settings; ``auto`` prefers CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: the device is not available.
    """
    is_available = {
        Device.cuda: torch.cuda.is_available(),
        Device.mps: torch.backends.mps.is_available(),
        Device.cpu: True,
    }
    if config.device is Device.auto:
        return torch.device(next(device.value for device, ok in is_available.items() if ok))
    if not is_available[config.device]:
        raise ConfigError(
            f"{key}={config.device.value}: not available to PyTorch {torch.__version__} on this "
            f"machine; use {key}=auto, or KORLM_TORCH=cuda scripts/train for a build of PyTorch "
            "with CUDA"
        )
    return torch.device(config.device.value)


def available_device(device: torch.device | str) -> torch.device:
    """Return a device by its name in PyTorch; ``ConfigError`` if it is not available."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (AssertionError, RuntimeError, TypeError):
        raise ConfigError(
            f"device={device}: not available to PyTorch {torch.__version__} on this machine"
        ) from None
    return found


def training_device(config: TrainerConfig, env: Rank) -> torch.device:
    """Return the device of a training process: a GPU per process, or the shared CPU."""
    device = choose_device(config)
    if env.size == 1 or device.type == "cpu":
        return device
    num_devices = torch.cuda.device_count() if device.type == "cuda" else 1
    if env.local_size > num_devices:
        raise ConfigError(
            f"trainer.device={config.device.value}: {env.local_size} processes on this machine but "
            f"{num_devices} {device.type} device(s); use torchrun --nproc-per-node {num_devices}, "
            "or trainer.device=cpu"
        )
    device = torch.device(device.type, env.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def inference_device(settings: InferenceSettings) -> torch.device:
    """Return the device on which a trained model is used, and set the number of CPU threads."""
    threads.configure_threads(settings.threads, 0)
    device = choose_device(TrainerConfig(device=settings.device), "device")
    # MPS has no float64, in which probabilities are summed.
    return torch.device("cpu") if device.type == "mps" else device


def uses_bf16(config: TrainerConfig, device: torch.device) -> bool:
    """Return True if training uses bf16; ``auto`` uses it on hardware with native bf16 products.

    Elsewhere bf16 is emulated and slower than fp32.
    """
    if config.precision is not Precision.auto:
        if config.precision is Precision.bf16 and device.type == "mps":
            raise ConfigError(
                "trainer.precision=bf16: not supported on MPS; use trainer.precision=fp32"
            )
        return config.precision is Precision.bf16
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Private functions, which a PyTorch may lack. They ask the processor only.
        tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        is_native = any(getattr(torch.cpu, test, bool)() for test in tests)
        return is_native and _onednn_may_use_bf16() and lstm_runs_in_bf16()
    return False


def _onednn_may_use_bf16() -> bool:
    """Return whether the environment lets oneDNN use the processor's bf16 instructions.

    Otherwise it emulates them: with AVX512_CORE, a product takes twice the time of fp32.
    """
    names = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # the older name is still read
    isa = next(filter(None, map(os.environ.get, names)), "ALL").upper()
    return any(part in isa for part in ("BF16", "FP16", "AMX", "AVX10", "ALL", "DEFAULT"))
