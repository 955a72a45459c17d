"""Set the precision of matrix products: bf16 autocast and TF32."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch


def autocast(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which matrix products and recurrent kernels use bf16 if ``bf16``."""
    if not bf16:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


_BACKENDS: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)

_lock = threading.Lock()
_blocks: list[bool] = []  # of each ``tf32`` block in progress, in any thread: is TF32 allowed?
_outside: list[bool] = []  # PyTorch's flags outside all blocks


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 (10-bit mantissa of fp32 products on GPUs) within the block.

    PyTorch allows it for recurrent layers by default. That is good for training, but evaluation
    must give the same metrics as on a CPU. PyTorch's flags are those of the process: TF32 is used
    while all blocks in progress allow it, those of other threads included.
    """
    with _lock:
        if not _blocks:
            _outside[:] = [backend.allow_tf32 for backend in _BACKENDS]
        _blocks.append(allowed)
        _set_flags()
    try:
        yield
    finally:
        with _lock:
            _blocks.remove(allowed)
            _set_flags()


def _set_flags() -> None:
    for backend, outside in zip(_BACKENDS, _outside, strict=True):
        backend.allow_tf32 = all(_blocks) if _blocks else outside
