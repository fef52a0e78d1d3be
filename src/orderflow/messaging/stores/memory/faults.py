"""The fault port over a shared memory database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from msgspec.structs import replace

from orderflow.messaging.clock import Clock
from orderflow.messaging.faults.fault import Fault, FaultReader, FaultSet


@dataclass(slots=True)
class FaultTables:
    """The tables. `readers`: by process, the revision that it applies and when it said so, in ms since the epoch."""

    faults: dict[int, Fault] = field(default_factory=dict)
    readers: dict[UUID, tuple[int, int]] = field(default_factory=dict)
    revision: int = 1
    ids: int = 0


async def reachable(_: str) -> None:
    """A database that always answers."""


class MemoryFaults:
    """See `messaging.faults.fault.FaultStore`."""

    def __init__(self, tables: FaultTables, clock: Clock, step: Callable[[str], Awaitable[None]] = reachable) -> None:
        self._tables = tables
        self._clock = clock
        self._step = step

    async def current(self) -> FaultSet:
        await self._step("read")
        return self._set(self._tables.faults.values())

    async def add(self, fault: Fault) -> FaultSet:
        await self._step("read")
        tables = self._tables
        tables.ids += 1
        tables.revision += 1
        tables.faults[tables.ids] = replace(fault, id=tables.ids)
        return self._set([tables.faults[tables.ids]])

    async def clear(self, fault: int | None) -> FaultSet:
        await self._step("read")
        tables = self._tables
        gone = [each for each in tables.faults.values() if fault is None or each.id == fault]
        for each in gone:
            del tables.faults[each.id]
        tables.revision += 1 if gone else 0
        return self._set(gone)

    async def follow(self, process: UUID, applied: int) -> FaultSet:
        await self._step("read")
        self._tables.readers[process] = (applied, self._clock.wall_ms())
        return self._set(self._tables.faults.values())

    async def leave(self, process: UUID) -> None:
        await self._step("read")
        self._tables.readers.pop(process, None)

    async def readers(self, silent_ms: int) -> Sequence[FaultReader]:
        await self._step("read")
        oldest = self._clock.wall_ms() - silent_ms
        living = {each: said for each, said in self._tables.readers.items() if said[1] >= oldest}
        self._tables.readers = living
        return [FaultReader(process=each, revision=living[each][0]) for each in sorted(living)]

    def _set(self, faults: Iterable[Fault]) -> FaultSet:
        return FaultSet(revision=self._tables.revision, faults=tuple(faults))
