"""How a process on a game day learns of faults and confirms that it applies them."""

from __future__ import annotations

from contextlib import suppress
from uuid import uuid4

from orderflow.messaging.clock import Clock
from orderflow.messaging.faults.gate import ActiveFaults
from orderflow.messaging.faults.port import FaultStore
from orderflow.messaging.signals import FaultsCleared, FaultsIgnored, FaultsSet, Signals
from orderflow.messaging.store import StoreUnavailableError

LOOK_EVERY_S = 0.2
REMIND_EVERY_S = 10.0


class FaultFollower:
    """One a process. `begin` before anything is decided, then `step` for ever, `leave` at the end."""

    def __init__(self, service: str, store: FaultStore, signals: Signals, clock: Clock) -> None:
        self.active = ActiveFaults()
        self._process = uuid4()
        self._service = service
        self._store = store
        self._signals = signals
        self._clock = clock
        self._told_at = float("-inf")

    async def begin(self) -> None:
        """Return when what is set is applied here and confirmed. Raises StoreUnavailableError.

        Confirmed last: who sets a fault waits for every process that has been heard of, and this one was heard of
        before it was told for the last time that nothing is new.
        """
        while True:
            found = await self._store.follow(self._process, self.active.revision)
            if found.revision == self.active.revision:
                return
            had = self.active.faults
            self.active.apply(found)
            if found.faults:
                self._tell()
            elif had:
                self._signals.emit(FaultsCleared(self._service))

    async def step(self) -> None:
        """Look after a moment, and remind of what is set. Raises StoreUnavailableError."""
        await self._clock.sleep(LOOK_EVERY_S)
        await self.begin()
        if self.active.faults and self._clock.monotonic() - self._told_at >= REMIND_EVERY_S:
            self._tell()

    async def leave(self) -> None:
        """Nobody has to wait for this process any more."""
        with suppress(StoreUnavailableError):
            await self._store.leave(self._process)

    async def ignore(self) -> None:
        """For a process outside of game days: say so, if there is anything that it ignores."""
        found = await self._store.current()
        if found.faults:
            self._signals.emit(FaultsIgnored(self._service, [str(fault) for fault in found.faults]))

    def _tell(self) -> None:
        self._told_at = self._clock.monotonic()
        self._signals.emit(FaultsSet(self._service, [str(fault) for fault in self.active.faults]))
