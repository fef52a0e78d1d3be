"""Waiting for the earliest of several moments, of which an earlier one may be named meanwhile."""

from __future__ import annotations

import asyncio
import heapq
import math
from contextlib import suppress

from orderflow.messaging.clock import Clock

GRAIN_S = 0.01
"""Moments closer to each other ring together, so that many cost no more room than a few."""


class Alarm:
    """Rings at each moment it was set to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[float] = []
        self._set: set[float] = set()
        self._moved = asyncio.Event()

    def set(self, in_ms: float) -> None:
        """Ring no later than in so many ms (up to a grain later)."""
        now = self._clock.monotonic()
        due_at = math.ceil((now + in_ms / 1000) / GRAIN_S) * GRAIN_S if in_ms > 0 else now
        if due_at not in self._set:
            self._set.add(due_at)
            heapq.heappush(self._due, due_at)
            self._moved.set()

    @property
    def next_at(self) -> float:
        """The earliest moment that it is set to (monotonic, s); infinite when there is none."""
        return self._due[0] if self._due else math.inf

    async def wait(self) -> None:
        """Return when it rings; the moments that have come are forgotten then, later ones are not."""
        while (left := self.next_at - self._clock.monotonic()) > 0:
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left if left < math.inf else None):
                    await self._moved.wait()
        now = self._clock.monotonic()
        while self.next_at <= now:
            self._set.discard(heapq.heappop(self._due))
