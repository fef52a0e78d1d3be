"""How many may be sent now, so that a rate is kept."""

from __future__ import annotations

BURST_S = 0.1


class Pace:
    """At most `rate_per_s` over any time, give or take what falls into BURST_S. None: no limit. Times are in s."""

    def __init__(self, rate_per_s: float | None) -> None:
        self._rate = rate_per_s
        self._next_at: float | None = None

    def room(self, now: float) -> int | None:
        """How many may be sent at this moment; None: any number."""
        if self._rate is None:
            return None
        if self._next_at is None or now < self._next_at:
            return 1 if self._next_at is None else 0
        return int(min(now - self._next_at, BURST_S) * self._rate) + 1

    def sent(self, count: int, now: float) -> None:
        """So many were sent."""
        if self._rate is not None:
            start = now if self._next_at is None else max(self._next_at, now - BURST_S)
            self._next_at = start + count / self._rate

    def wait_s(self, now: float) -> float:
        """How long until the next may be sent."""
        return max(0.0, self._next_at - now) if self._next_at is not None else 0.0
