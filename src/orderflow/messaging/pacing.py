"""Pacing: the first record goes at once; while the system is busy, the next are gathered for a few ms.

A batch starts no sooner than some time after the last one, in proportion to what the last one carried. So a
quiet system waits for nothing, and a busy one pays its fixed costs for many records at a time. After a full batch
there is nothing to gather for: the next one is waiting already.
"""

from __future__ import annotations

from orderflow.messaging.clock import Clock

WORTH_WAITING_S = 0.002


class Pacer:
    """Spaces the batches of one loop: by `ms_per_record` of the last one, within `least_ms` and `max_ms`."""

    def __init__(
        self, clock: Clock, ms_per_record: float, max_ms: float, full: int, *, least_ms: float = 0.0
    ) -> None:
        self._clock = clock
        self._s_per_record = ms_per_record / 1000
        self._least_s = least_ms / 1000
        self._max_s = max(least_ms, max_ms) / 1000
        self._full = full
        self._not_before = 0.0

    def started(self, size: int) -> None:
        """A batch of `size` records starts now."""
        pause_s = max(self._least_s, min(self._max_s, size * self._s_per_record))
        self._not_before = self._clock.monotonic() + (pause_s if size < self._full else 0.0)

    async def gather(self) -> None:
        """Wait until the next batch may start."""
        left = self._not_before - self._clock.monotonic()
        if left > WORTH_WAITING_S:
            await self._clock.sleep(left)
