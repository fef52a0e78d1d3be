"""The recovery port on PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import asyncpg

from orderflow.messaging.recovery.port import Letter, LetterFilter, ParkedSummary
from orderflow.messaging.stores.postgres.core_rows import read_parked
from orderflow.messaging.stores.postgres.queries import load_queries

Run = Callable[..., Awaitable[Sequence[asyncpg.Record]]]


class PostgresRecovery:
    """See `messaging.recovery.port.RecoveryStore`. `run` runs one query with its arguments."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._queries = load_queries("orderflow.messaging.stores.postgres", "recovery.sql")

    async def letters(self, wanted: LetterFilter, limit: int, after: int = 0) -> Sequence[Letter]:
        rows = await self._run(self._queries["dead_letters"], after, limit)
        return [read_view(row) for row in rows]

    async def letter(self, event: UUID | int) -> Letter | None:
        query = "parked_by_position" if isinstance(event, int) else "parked_by_event"
        rows = await self._run(self._queries[query], event)
        return read_view(rows[0]) if rows else None

    async def summary(self) -> Sequence[ParkedSummary]:
        rows = await self._run(self._queries["parked_summary"])
        return [read_summary(row) for row in rows]


def read_view(row: asyncpg.Record) -> Letter:
    return Letter(
        consumer=row["consumer"],
        event=read_parked(row),
        parked_at=row["parked_at"],
        first_failed_at=row["first_failed_at"],
        last_failed_at=row["last_failed_at"],
        next_attempt_at=row["next_attempt_at"],
    )


def read_summary(row: asyncpg.Record) -> ParkedSummary:
    return ParkedSummary(
        consumer=row["consumer"],
        keys=row["keys"],
        retrying=row["retrying"],
        dead=row["dead"],
        held=row["held"],
        oldest=row["oldest"],
    )
