"""The virtual clock of one simulated machine."""

from __future__ import annotations

import asyncio

from orderflow.simulation.loop import VirtualLoop

EPOCH_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: a simulation has no today."""


class VirtualClock:
    """The loop's time. `skew_ms` is how far this machine's wall clock is off; it may jump."""

    def __init__(self, loop: VirtualLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self._epoch_ms = EPOCH_MS + skew_ms

    def monotonic(self) -> float:
        return self._loop.time()

    def wall_ms(self) -> int:
        return self._epoch_ms + int(self._loop.time() * 1000)

    def jump(self, by_ms: int) -> None:
        """Somebody sets the wall clock."""
        self._epoch_ms += by_ms

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
