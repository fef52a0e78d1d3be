"""What a service says that an operator has to see to: read now and then, told when it begins, changes and ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from orderflow.messaging.clock import Clock
from orderflow.messaging.signals import Overdue, OverdueOver, Signals

READ_EVERY_S = 5.0


class AlarmWatch:
    """`found` are the alarms as they were read last, by name. Each process of a service reads and tells alone."""

    def __init__(
        self, service: str, read: Callable[[], Awaitable[Mapping[str, str]]], signals: Signals, clock: Clock
    ) -> None:
        self.found: Mapping[str, str] = {}
        self._service = service
        self._read = read
        self._signals = signals
        self._clock = clock

    async def step(self) -> None:
        """Read once, tell what is new, and wait for the next time. Raises what reading raises."""
        before, self.found = self.found, await self._read()
        for name, message in self.found.items():
            if before.get(name) != message:
                self._signals.emit(Overdue(self._service, name, message))
        for name in before.keys() - self.found.keys():
            self._signals.emit(OverdueOver(self._service, name))
        await self._clock.sleep(READ_EVERY_S)
