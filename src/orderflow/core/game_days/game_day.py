"""A process's part in a game day: it learns of faults, applies them, and confirms that it does.

It wraps what the process hands to its engine anyway: the service, whose decisions fail, and the log, whose consumers
stand still where a fault hangs. A process that takes no part wraps nothing, and asks nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast
from uuid import uuid4

from orderflow.core.envelopes import from_record
from orderflow.core.game_days.fault import Fault, FaultKind, FaultSet, FaultStore, strikes, with_faults
from orderflow.core.service import Service
from orderflow.core.store import StoreUnavailableError
from orderflow.core.telemetry import FaultsCleared, FaultsIgnored, FaultsSet, Signals
from orderflow.core.timing import Clock
from orderflow.core.transport import Consumer, ConsumerRecord, Transport

LOOK_EVERY_S = 0.2
REMIND_EVERY_S = 10.0


class GameDay:
    """One a process. `begin` before the engine starts, then `step` for ever, `leave` at the end.

    `service` and `transport(...)` are for the engine. `faults` is what is applied at this moment.
    """

    def __init__(self, service: Service, store: FaultStore, signals: Signals, clock: Clock) -> None:
        self.service = with_faults(service, lambda: self.faults)
        self._store = store
        self._signals = signals
        self._clock = clock
        self._process = uuid4()
        self._applied = FaultSet(revision=0, faults=())
        self._changed = asyncio.Event()
        self._hanging: dict[str, str] = {}
        self._told_at = float("-inf")

    @property
    def faults(self) -> Sequence[Fault]:
        return self._applied.faults

    def transport(self, transport: Transport) -> Transport:
        """The log, with consumers that stand still where a fault hangs."""
        return cast("Transport", _Holding(transport, self))

    def held(self, consumer: str) -> str:
        """Why the consumer stands still; "" when it does not."""
        return self._hanging.get(consumer, "")

    def problems(self) -> Mapping[str, str]:
        """By component: what stands still because of a fault."""
        return {f"consumer {consumer}": why for consumer, why in self._hanging.items()}

    async def begin(self) -> None:
        """Return when what is set is applied here and confirmed. Raises StoreUnavailableError.

        Confirmed last: who sets a fault waits for every process that has been heard of, and this one was heard of
        before it was told for the last time that nothing is new.
        """
        while True:
            found = await self._store.follow(self._process, self._applied.revision)
            if found.revision == self._applied.revision:
                return
            had = self.faults
            self._applied = found
            self.wake()
            if found.faults:
                self._tell()
            elif had:
                self._signals.emit(FaultsCleared(self.service.name))

    async def step(self) -> None:
        """Look after a moment, and remind of what is set. Raises StoreUnavailableError."""
        await self._clock.sleep(LOOK_EVERY_S)
        await self.begin()
        if self.faults and self._clock.monotonic() - self._told_at >= REMIND_EVERY_S:
            self._tell()

    async def leave(self) -> None:
        """Nobody has to wait for this process any more."""
        with suppress(StoreUnavailableError):
            await self._store.leave(self._process)

    def wake(self) -> None:
        """Whoever stands still looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def let_pass(self, member: _HeldConsumer, records: Sequence[ConsumerRecord]) -> None:
        """Return when none of the records meets a fault that hangs, or the member leaves."""
        try:
            while not member.closed and (fault := self._that_hangs(records)):
                self._hanging[member.name] = f"stalled: {fault}"
                await self._changed.wait()
        finally:
            self._hanging.pop(member.name, None)

    def _that_hangs(self, records: Sequence[ConsumerRecord]) -> Fault | None:
        hangs = [fault for fault in self.faults if fault.error is FaultKind.HANG]
        read = [from_record(record, self.service.catalogue) for record in records] if hangs else []
        messages = [incoming.envelope.message for incoming in read if incoming.envelope]
        return next((fault for fault in hangs if any(strikes(fault, message) for message in messages)), None)

    def _tell(self) -> None:
        self._told_at = self._clock.monotonic()
        self._signals.emit(FaultsSet(self.service.name, [str(fault) for fault in self.faults]))


async def tell_ignored(service: str, store: FaultStore, signals: Signals) -> None:
    """For a process that takes no part: say what it ignores, if anything. Raises StoreUnavailableError."""
    found = await store.current()
    if found.faults:
        signals.emit(FaultsIgnored(service, [str(fault) for fault in found.faults]))


class _Holding:
    """A log of which only the joining of a group is another."""

    def __init__(self, transport: Transport, game_day: GameDay) -> None:
        self._transport = transport
        self._game_day = game_day

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def subscribe(self, group: str, topics: Sequence[str]) -> Consumer:
        return _HeldConsumer(group, await self._transport.subscribe(group, topics), self._game_day)


class _HeldConsumer:
    """A member that hands its records on once nothing in them hangs; all of them wait, and what comes behind."""

    def __init__(self, name: str, member: Consumer, game_day: GameDay) -> None:
        self.name = name
        self.closed = False
        self._member = member
        self._game_day = game_day

    async def poll(self, max_records: int) -> Sequence[ConsumerRecord]:
        records = await self._member.poll(max_records)
        await self._game_day.let_pass(self, records)
        return () if self.closed else records

    async def commit(self, records: Sequence[ConsumerRecord]) -> None:
        await self._member.commit(records)

    def assignment(self) -> frozenset[tuple[str, int]]:
        return self._member.assignment()

    async def close(self) -> None:
        self.closed = True
        self._game_day.wake()
        await self._member.close()
