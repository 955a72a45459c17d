"""Chooses the device on which a trained model runs."""

from __future__ import annotations

import torch

from korlm.config import Device, InferenceSettings, TrainerConfig
from korlm.utils import threads
from korlm.utils.errors import ConfigError


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


def inference_device(settings: InferenceSettings) -> torch.device:
    """Where a trained model is used; the CPU gets as many threads as the settings say.

    Raises:
        ConfigError: the device was asked for by name and is not there.
    """
    threads.configure_threads(settings.threads, 0)
    device = choose_device(TrainerConfig(device=settings.device), "device")
    # MPS has no float64, in which probabilities are summed.
    return torch.device("cpu") if device.type == "mps" else device
