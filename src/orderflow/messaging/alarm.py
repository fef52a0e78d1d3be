"""Waiting for the earliest of several moments, of which an earlier one may be named meanwhile."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

from orderflow.messaging.clock import Clock


class Alarm:
    """Rings at the earliest moment it was set to, and at the latest `idle_s` after the waiting began."""

    def __init__(self, clock: Clock, idle_s: float) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._due_at = math.inf
        self._moved = asyncio.Event()

    def set(self, in_ms: float) -> None:
        """Ring no later than in so many ms."""
        self._due_at = min(self._due_at, self._clock.monotonic() + in_ms / 1000)
        self._moved.set()

    async def wait(self) -> None:
        """Return when it rings; what it was set to is forgotten then."""
        latest = self._clock.monotonic() + self._idle_s
        while (left := min(latest, self._due_at) - self._clock.monotonic()) > 0:
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._moved.wait()
        self._due_at = math.inf
