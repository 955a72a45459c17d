"""Limit the rate of requests per client."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CLIENTS = 1024  # number of clients to remember; the least recently seen is forgotten first


class RateLimit:
    """A token bucket for each client (Turner 1986).

    ``rate`` is in requests per second on average; ``burst`` requests may come at once.

    >>> limit = RateLimit(rate=1.0, burst=2, clock=iter([0.0, 0.0, 0.0, 1.5]).__next__)
    >>> [limit.acquire("a") for _ in range(4)]
    [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def acquire(self, client: str) -> float:
        """Return 0 and count a request if it is allowed, else return the seconds until it is."""
        now = self._clock()
        tokens, last_time = self._clients.pop(client, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - last_time) * self._rate)
        is_allowed = tokens >= 1
        self._clients[client] = (tokens - is_allowed, now)
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if is_allowed else (1 - tokens) / self._rate
