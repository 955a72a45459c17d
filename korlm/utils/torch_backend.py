"""Set the precision of matrix products: bf16 autocast and TF32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


def autocast(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which matrix products and recurrent kernels use bf16 if ``bf16``."""
    if not bf16:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 (10-bit mantissa of fp32 products on GPUs) within the block.

    PyTorch allows it for recurrent layers by default. That is good for training, but evaluation
    must give the same metrics as on a CPU.
    """
    backends: tuple[Any, Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    saved = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = allowed
    try:
        yield
    finally:
        for backend, was_allowed in zip(backends, saved, strict=True):
            backend.allow_tf32 = was_allowed
