"""Set the number of CPU threads per operation: few for small ones, all for large products.

PyTorch uses the same number of threads for every operation. Products with the vocabulary matrix and
those of Muon benefit from all cores, the steps of a small recurrent network do not. The default is
therefore the best number for the recurrence, and large operations raise it temporarily. Products
have identical results with any number of threads in bf16, with up to four in fp32 (measured
2026-11-22, up to 32 threads on 2 cores).

The number does not depend on the load of the machine. Beside busy processes, one thread is slower
than two that sleep while they wait (OMP_WAIT_POLICY=passive): 2.24 against 1.65 s a step, with
about 19 runnable processes on 2 cores (2026-11-29).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from korlm.utils.machine import available_cores

# Work for which another thread is added: multiply-adds of a recurrent step and of a matrix product,
# elements of an elementwise operation. A second thread was already faster at half of each (on 2
# cores, 2026-11-22).
STEP, PRODUCT, PASS = 3_000_000, 8_000_000, 100_000

SAME_IN_FP32 = 4  # largest number of threads with identical results of fp32 products

_TORCH_DEFAULT = torch.get_num_threads()

# Limits of the number of threads; 0 before ``configure_threads``: the number is left as it is.
_fewest, _most = 0, 0


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
def preserve_thread_counts() -> Iterator[None]:
    """Undo ``configure_threads`` after the block."""
    global _fewest, _most
    saved = _fewest, _most, torch.get_num_threads()
    try:
        yield
    finally:
        _fewest, _most, number = saved
        torch.set_num_threads(number)


def all_threads() -> int:
    """Return the number of cores available to this process, at most PyTorch's default."""
    return min(_TORCH_DEFAULT, available_cores())


def matmul_threads(multiply_adds: int) -> contextlib.AbstractContextManager[None]:
    """Set the number of threads for a matrix product within the block."""
    return _threads(_parts(multiply_adds, PRODUCT))


def elementwise_threads(elements: int) -> contextlib.AbstractContextManager[None]:
    """Set the number of threads for an elementwise operation within the block.

    Do not use it for reductions, whose result would depend on the number of threads.
    """
    return _threads(_parts(elements, PASS))


def _parts(work: int, size: int) -> int:
    """Return the number of parts of at most ``size`` that some work has."""
    return max(1, -(-work // size))


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    old = torch.get_num_threads()
    new = max(_fewest, min(_most, count)) or old
    if new == old:
        yield
        return
    torch.set_num_threads(new)
    try:
        yield
    finally:
        torch.set_num_threads(old)
