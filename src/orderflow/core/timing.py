"""Time: the clock's port, the pacing of batches, and timers.

A pacer spaces the batches of a loop. The first record goes at once; while the system is busy, the next ones are
gathered: after a batch the loop rests in proportion to how long the batch took. So a quiet system waits for nothing,
and a busy one shares its fixed costs among many records, however fast the machine is. After a full batch there is no
rest: the next one is waiting already.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
import time
from contextlib import suppress
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


WORTH_WAITING_S = 0.002
GRAIN_S = 0.01
"""A timer rounds its times up to this grain, so that many close ones take no more memory than a few."""


class Pacer:
    """Spaces the batches of one loop: it rests `rest` times as long as the last batch took, at most `max_ms`.

    Two batches start at least `least_ms` apart. After a batch of `full` records the next one starts at once.
    """

    def __init__(self, clock: Clock, max_ms: float, full: int, *, rest: float = 1.0, least_ms: float = 0.0) -> None:
        self._clock = clock
        self._max_s = max_ms / 1000
        self._full = full
        self._rest = rest
        self._least_s = least_ms / 1000
        self._started_at = -math.inf
        self._rests = False
        self._not_before = -math.inf

    def started(self, size: int) -> None:
        """A batch of `size` records starts now."""
        self._started_at = self._clock.monotonic()
        self._rests = size < self._full
        self._not_before = self._started_at + (self._least_s if self._rests else 0.0)

    def ended(self) -> None:
        """The batch has ended. Need not be called if it failed: records gather during the back-off anyway."""
        if self._rests:
            now = self._clock.monotonic()
            rest_s = min(self._max_s, self._rest * (now - self._started_at))
            self._not_before = max(self._not_before, now + rest_s)

    async def gather(self) -> None:
        """Wait until the next batch may start."""
        left = self._not_before - self._clock.monotonic()
        if left > WORTH_WAITING_S:
            await self._clock.sleep(left)


class Timer:
    """Waits for the earliest of several times; earlier ones may be added while it waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[float] = []
        self._set: set[float] = set()
        self._moved = asyncio.Event()

    def set(self, in_ms: float) -> None:
        """Ring in `in_ms`, at most one grain later."""
        now = self._clock.monotonic()
        due_at = math.ceil((now + in_ms / 1000) / GRAIN_S) * GRAIN_S if in_ms > 0 else now
        if due_at not in self._set:
            self._set.add(due_at)
            heapq.heappush(self._due, due_at)
            self._moved.set()

    @property
    def next_at(self) -> float:
        """The earliest time that is set (monotonic, s); infinite if there is none."""
        return self._due[0] if self._due else math.inf

    async def wait(self) -> None:
        """Return when the earliest time has come, and remove all times that have; later ones stay set."""
        while (left := self.next_at - self._clock.monotonic()) > 0:
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left if left < math.inf else None):
                    await self._moved.wait()
        now = self._clock.monotonic()
        while self.next_at <= now:
            self._set.discard(heapq.heappop(self._due))
