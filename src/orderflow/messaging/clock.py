"""Ports for what a simulator must own: time and chance."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds for durations, wall-clock ms for time-ordered ids; never for order."""

    def monotonic(self) -> float: ...

    def wall_ms(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def system_random() -> random.Random:
    """A source of chance for jitter and ids, seeded once by the operating system. Not for secrets."""
    return random.Random()  # noqa: S311  # ids and jitter, no secrets
