"""Messages that would be parked and find no room: they wait, and their partitions with them."""

from __future__ import annotations

import random

from orderflow.messaging.clock import Clock
from orderflow.messaging.retry import Backoff
from orderflow.messaging.signals import Resumed, Signals, Waiting


class Crowd:
    """Tells that there is no room, and when to look again. `problem` is "" while there is."""

    def __init__(
        self, service: str, consumer: str, backoff: Backoff, signals: Signals, clock: Clock, chance: random.Random
    ) -> None:
        self.problem = ""
        self._service = service
        self._component = f"parking {consumer}"
        self._backoff = backoff
        self._signals = signals
        self._clock = clock
        self._chance = chance
        self._failed = 0
        self._began = 0.0
        self._retry_at = 0.0

    @property
    def wait_s(self) -> float:
        """How long until the next look."""
        return max(0.0, self._retry_at - self._clock.monotonic()) if self._failed else 0.0

    def found_no_room(self, count: int, key: str) -> None:
        """So many messages were deferred for it, one of them of `key`."""
        now = self._clock.monotonic()
        if not self._failed:
            self._began = now
        self._failed += 1
        delay_s = self._backoff.delay_ms(self._failed, self._chance) / 1000
        self._retry_at = now + delay_s
        self.problem = (
            f"{count} events wait, one of key {key!r}: as many keys are parked, or events behind one, as the bounds "
            "allow; mend, replay or discard what is parked"
        )
        self._signals.emit(Waiting(self._service, self._component, self.problem, delay_s))

    def found_room(self) -> None:
        """None was."""
        if self._failed:
            after_s = self._clock.monotonic() - self._began
            self._signals.emit(Resumed(self._service, self._component, after_s))
        self._failed = 0
        self.problem = ""
