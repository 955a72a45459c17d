"""How many of the CPU's threads an operation gets: few for small ones, all for large products.

PyTorch shares out every operation, however small, among as many threads as it was told. Products
with the vocabulary and those of Muon are worth all cores of a large machine, the steps of a small
recurrent network are not. So the number in force is that of the recurrence, and what is large asks
for more while it lasts. Products in bf16 give the same numbers with any number of threads, those in
fp32 with up to four; beyond, their last digits differ (2026-11-22, up to 32 threads on 2 cores).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from korlm.cores import available_cores

# Work that another thread is asked for: multiply-adds of a recurrent step and of a product,
# elements that are passed over. On 2 cores half of each was worth the second one (2026-11-22).
STEP, PRODUCT, PASS = 3_000_000, 8_000_000, 100_000

_CHOICE = torch.get_num_threads()  # PyTorch's own, before anybody changes it
_fewest, _most = 0, 0  # 0: as many threads as are in force


def share_out(most: int | None, step: int) -> None:
    """Sets the threads of all that is small, and lets ``product`` and ``passing`` have more.

    Args:
        most: threads of the largest operations; None: all cores that are left to this process.
        step: multiply-adds of the largest product within a recurrent step.
    """
    global _fewest, _most
    _most = min(_CHOICE, available_cores()) if most is None else most
    _fewest = min(_most, _parts(step, STEP))
    torch.set_num_threads(_fewest)


def product(multiply_adds: int) -> contextlib.AbstractContextManager[None]:
    """As many threads as a matrix product is worth, while this lasts."""
    return _threads(_parts(multiply_adds, PRODUCT))


def passing(elements: int) -> contextlib.AbstractContextManager[None]:
    """As many threads as it is worth to pass over elements, while this lasts.

    Not for sums over all of them, which would depend on the number of threads.
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
