"""The fault port on PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import asyncpg

from orderflow.core.game_days.fault import Fault, FaultKind, FaultReader, FaultSet
from orderflow.core.postgres.queries import load_queries
from orderflow.core.store import Act

Run = Callable[..., Awaitable[Sequence[asyncpg.Record]]]


class PostgresFaults:
    """See `core.game_days.fault.FaultStore`. `run` runs one query with its arguments."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._queries = load_queries("orderflow.core.postgres", "faults.sql")

    async def current(self) -> FaultSet:
        return read_set(await self._run(self._queries["faults_current"]))

    async def add(self, fault: Fault, act: Act) -> FaultSet:
        given = (fault.event_type, fault.field, fault.value, fault.error.value, fault.share, act.who, act.reason)
        return read_set(await self._run(self._queries["fault_add"], *given))

    async def clear(self, fault: int | None, act: Act) -> FaultSet:
        return read_set(await self._run(self._queries["fault_clear"], fault, act.who, act.reason))

    async def follow(self, process: UUID, applied: int) -> FaultSet:
        return read_set(await self._run(self._queries["fault_confirm"], process, applied))

    async def leave(self, process: UUID) -> None:
        await self._run(self._queries["fault_leave"], process)

    async def readers(self, silent_ms: int) -> Sequence[FaultReader]:
        rows = await self._run(self._queries["fault_readers"], silent_ms)
        return [FaultReader(process=row["process"], revision=row["revision"]) for row in rows]


def read_set(rows: Sequence[asyncpg.Record]) -> FaultSet:
    faults = tuple(read_fault(row) for row in rows if row["id"] is not None)
    return FaultSet(revision=rows[0]["number"], faults=faults)


def read_fault(row: asyncpg.Record) -> Fault:
    return Fault(
        id=row["id"],
        event_type=row["event_type"],
        field=row["field"],
        value=row["value"],
        error=FaultKind(row["error"]),
        share=row["share"],
    )
