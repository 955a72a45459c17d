"""What one client may ask of the server, and how many may wait."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CLIENTS = 1024  # that are remembered; the one that was quiet longest is forgotten first


class RateLimit:
    """A token bucket for each client (Turner 1986): a rate on average, a burst at once.

    Args:
        rate: requests a second.
        burst: requests at once.
        clock: seconds.

    >>> limit = RateLimit(rate=1.0, burst=2, clock=iter([0.0, 0.0, 0.0, 1.5]).__next__)
    >>> [limit.wait("a") for _ in range(4)]
    [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Seconds until this client may ask; 0: now, which counts as a request."""
        now = self._clock()
        tokens, then = self._clients.pop(client, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        allowed = tokens >= 1
        self._clients[client] = (tokens - allowed, now)
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._rate
