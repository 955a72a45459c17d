"""How many of the CPU's threads an operation gets: few for small ones, all for large products.

PyTorch shares out every operation, however small, among as many threads as it was told. Products
with the vocabulary and those of Muon are worth all cores of a large machine, the steps of a small
recurrent network are not. So the number in force is that of the recurrence, and what is large asks
for more while it lasts. Products in bf16 give the same numbers with any number of threads, those in
fp32 with up to four; beyond, their last digits differ (2026-11-22, up to 32 threads on 2 cores).

Threads that share an operation wait for the last of them, which may be waiting for a core that
another program has: beside one busy program, two threads on two cores took three times as long as
one. So a training goes on with one while its threads have to wait for cores.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from korlm.utils.cpu import available_cores

logger = logging.getLogger(__name__)


# Work that another thread is asked for: multiply-adds of a recurrent step and of a product,
# elements that are passed over. On 2 cores half of each was worth the second one (2026-11-22).
STEP, PRODUCT, PASS = 3_000_000, 8_000_000, 100_000


SAME_IN_FP32 = 4  # threads with which products in fp32 still give the same numbers


CONTENTION_THRESHOLD = (
    0.25  # seconds that threads wait for a core, in a second, from which one does better
)


LOOK = 1.0  # seconds that are judged at once


PAUSES = 5.0, 160.0  # seconds on one thread before more are tried again, the first and the longest


_CHOICE = torch.get_num_threads()  # PyTorch's own, before anybody changes it


_fewest, _most = 0, 0  # 0: as many threads as are in force


def configure_threads(most: int | None, step: int) -> None:
    """Set the default number of threads, and the limits of the context managers below.

    Args:
        most: threads of the largest operations; None: all cores that are left to this process.
        step: multiply-adds of the largest product within a recurrent step.
    """
    most = all_threads() if most is None else most
    _set_thread_limits(min(most, _parts(step, STEP)), most)


def all_threads() -> int:
    """As many as there are cores left to this process."""
    return min(_CHOICE, available_cores())


def matmul_threads(multiply_adds: int) -> contextlib.AbstractContextManager[None]:
    """As many threads as a matrix product is worth, while this lasts."""
    return _threads(_parts(multiply_adds, PRODUCT))


def elementwise_threads(elements: int) -> contextlib.AbstractContextManager[None]:
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


class CpuContentionMonitor:
    """Other programs on the same cores: while they want them, a training has one thread.

    Args:
        bf16: whether products are in bf16; in fp32 the number of threads stays where it counts.
    """

    def __init__(self, bf16: bool) -> None:
        self._shared = _fewest, _most
        self._heeded = _most > 1 and (bf16 or _most <= SAME_IN_FP32)
        self._pause = PAUSES[0]
        self._alone_since: float | None = None
        self._at, self._waited = time.monotonic(), _runqueue_wait_seconds()

    def poll(self) -> None:
        """To be called now and then, between two steps."""
        at = time.monotonic()
        if not self._heeded or at - self._at < LOOK:
            return
        waited = _runqueue_wait_seconds()
        is_crowded = waited - self._waited > CONTENTION_THRESHOLD * (at - self._at)
        self._at, self._waited = at, waited
        if self._alone_since is None:
            if is_crowded:
                logger.debug("other programs want the cores: one thread for %.0f s", self._pause)
                self._alone_since = at
                _set_thread_limits(1, 1)
            else:
                self._pause = PAUSES[0]
        elif at - self._alone_since >= self._pause:
            self._pause = min(2 * self._pause, PAUSES[1])
            self._alone_since = None
            _set_thread_limits(*self._shared)


def _set_thread_limits(fewest: int, most: int) -> None:
    global _fewest, _most
    _fewest, _most = fewest, most
    torch.set_num_threads(fewest)


def _runqueue_wait_seconds() -> float:
    """Seconds that threads of this process could have run but had no core; Linux tells."""
    nanoseconds = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has ended
            nanoseconds += int(path.read_text().split()[1])
    return nanoseconds / 1e9
