"""Rate limit per client."""

from korlm.serving import rate_limit
from korlm.serving.rate_limit import RateLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    limit = RateLimit(rate=2.0, burst=3, clock=clock)
    assert [limit.acquire("a") for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.25
    assert limit.acquire("a") == 0.25
    clock.now += 0.25
    assert [limit.acquire("a"), limit.acquire("a")] == [0, 0.5]
    clock.now += 100
    assert [limit.acquire("a") for _ in range(4)] == [0, 0, 0, 0.5]  # never more than the burst


def test_clients_are_independent() -> None:
    limit = RateLimit(rate=1.0, burst=1, clock=Clock())
    assert [limit.acquire("a"), limit.acquire("b"), limit.acquire("a")] == [0, 0, 1]


def test_the_least_recently_seen_client_is_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(rate_limit, "MAX_CLIENTS", 2)
    limit = RateLimit(rate=1.0, burst=1, clock=Clock())
    assert [limit.acquire(c) for c in "abab"] == [0, 0, 1, 1]
    assert [limit.acquire(c) for c in "ca"] == [0, 0]
