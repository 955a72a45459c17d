"""Number of CPU threads per operation: few for small ones, all for large matrix products.

PyTorch uses the same number of threads for every operation. Products with the vocabulary matrix and
those of Muon benefit from all cores, the steps of a small recurrent network do not. The default is
therefore the best number for the recurrence, and large operations raise it temporarily. bf16
products give identical results with any number of threads, fp32 products with up to four
(2026-11-22, up to 32 threads on 2 cores).

The number does not depend on the load of the machine. Beside busy processes, one thread is slower
than two that sleep while they wait (OMP_WAIT_POLICY=passive): 2.24 against 1.65 s a step, with
about 19 runnable processes on 2 cores (2026-11-29).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from korlm.utils.cpu import available_cores

# Work per thread: multiply-adds of a recurrent step and of a matrix product, elements of an
# elementwise operation. On 2 cores, half of each justified the second thread (2026-11-22).
STEP, PRODUCT, PASS = 3_000_000, 8_000_000, 100_000

SAME_IN_FP32 = 4  # largest number of threads with identical results of fp32 products

_CHOICE = torch.get_num_threads()  # PyTorch's default

_fewest, _most = 0, 0  # 0: leave the number of threads as it is


def configure_threads(most: int | None, step: int) -> None:
    """Set the default number of threads, and the limits of the context managers below.

    Args:
        most: threads of the largest operations; None: all cores available to this process.
        step: multiply-adds of the largest product in a recurrent step.
    """
    global _fewest, _most
    _most = all_threads() if most is None else most
    _fewest = min(_most, _parts(step, STEP))
    torch.set_num_threads(_fewest)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Undo ``configure_threads`` after the block."""
    global _fewest, _most
    before = _fewest, _most, torch.get_num_threads()
    try:
        yield
    finally:
        _fewest, _most, number = before
        torch.set_num_threads(number)


def all_threads() -> int:
    """Return the number of cores available to this process, at most PyTorch's default."""
    return min(_CHOICE, available_cores())


def matmul_threads(multiply_adds: int) -> contextlib.AbstractContextManager[None]:
    """Set the number of threads for a matrix product within the block."""
    return _threads(_parts(multiply_adds, PRODUCT))


def elementwise_threads(elements: int) -> contextlib.AbstractContextManager[None]:
    """Set the number of threads for an elementwise operation within the block.

    Do not use it for reductions, whose result would depend on the number of threads.
    """
    return _threads(_parts(elements, PASS))


def _parts(work: int, size: int) -> int:
    return max(1, -(-work // size))


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    wanted = max(_fewest, min(_most, count)) or before
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
