"""Number of CPU threads per operation: few for small ones, all for large matrix products.

PyTorch uses the same number of threads for every operation. Products with the vocabulary matrix and
those of Muon benefit from all cores, the steps of a small recurrent network do not. The default is
therefore the best number for the recurrence, and large operations raise it temporarily. bf16
products give identical results with any number of threads, fp32 products with up to four
(2026-11-22, up to 32 threads on 2 cores).

The threads of an operation wait for the slowest one, which may be waiting for a core that another
process uses: next to one busy process, two threads on two cores took three times as long as one.
Training therefore uses one thread while the cores are contended.
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

# Work per thread: multiply-adds of a recurrent step and of a matrix product, elements of an
# elementwise operation. On 2 cores, half of each justified the second thread (2026-11-22).
STEP, PRODUCT, PASS = 3_000_000, 8_000_000, 100_000

SAME_IN_FP32 = 4  # largest number of threads with identical results of fp32 products

CONTENTION_THRESHOLD = 0.25  # seconds of waiting per second above which one thread is faster

LOOK = 1.0  # seconds between two measurements

PAUSES = 5.0, 160.0  # seconds on one thread before retrying: at first, at most

_CHOICE = torch.get_num_threads()  # PyTorch's default

_fewest, _most = 0, 0  # 0: leave the number of threads as it is


def configure_threads(most: int | None, step: int) -> None:
    """Set the default number of threads, and the limits of the context managers below.

    Args:
        most: threads of the largest operations; None: all cores available to this process.
        step: multiply-adds of the largest product in a recurrent step.
    """
    most = all_threads() if most is None else most
    _set_thread_limits(min(most, _parts(step, STEP)), most)


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


class CpuContentionMonitor:
    """Drops to one thread while other processes compete for the same cores.

    Args:
        bf16: whether products are in bf16; in fp32 more than four threads are never changed, since
            the results depend on their number.
    """

    def __init__(self, bf16: bool) -> None:
        self._shared = _fewest, _most
        self._enabled = _most > 1 and (bf16 or _most <= SAME_IN_FP32)
        self._pause = PAUSES[0]
        self._single_since: float | None = None
        self._at, self._waited = time.monotonic(), _runqueue_wait_seconds()

    def poll(self) -> None:
        """Measure the contention and adapt the number of threads; call it between steps."""
        at = time.monotonic()
        if not self._enabled or at - self._at < LOOK:
            return
        waited = _runqueue_wait_seconds()
        is_crowded = waited - self._waited > CONTENTION_THRESHOLD * (at - self._at)
        self._at, self._waited = at, waited
        if self._single_since is None:
            if is_crowded:
                logger.debug("the cores are busy: using one thread for %.0f s", self._pause)
                self._single_since = at
                _set_thread_limits(1, 1)
            else:
                self._pause = PAUSES[0]
        elif at - self._single_since >= self._pause:
            self._pause = min(2 * self._pause, PAUSES[1])
            self._single_since = None
            _set_thread_limits(*self._shared)


def _set_thread_limits(fewest: int, most: int) -> None:
    global _fewest, _most
    _fewest, _most = fewest, most
    torch.set_num_threads(fewest)


def _runqueue_wait_seconds() -> float:
    """Return the seconds that runnable threads of this process waited for a core (Linux)."""
    nanoseconds = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has ended
            nanoseconds += int(path.read_text().split()[1])
    return nanoseconds / 1e9
