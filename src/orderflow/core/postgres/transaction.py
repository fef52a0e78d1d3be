"""One unit of work: two calls of functions, see `functions`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import asyncpg

from orderflow.core.crash_points import Point, reached, reached_when_sent
from orderflow.core.inbox import InboxState
from orderflow.core.postgres import functions
from orderflow.core.postgres.functions import UnitOfWork, published
from orderflow.core.postgres.sessions import Connection, Connections, translated, unwritable
from orderflow.core.postgres.tables import Statement
from orderflow.core.store import (
    Changes,
    DataRefusedError,
    End,
    OutboxRecord,
    Plan,
    ProposalClosedError,
    Snapshot,
    approvals_of,
)

GIVE_BACK_TIMEOUT_S = 5.0

T = TypeVar("T")


class PostgresTransaction:
    """See `core.store.Transaction`. `on_published` is called after the commit with its outbox rows.

    What is rare (events that are parked, tried again, edited or released, and operators' acts) is written beside the
    function, by statements of its own in an open transaction.
    """

    def __init__(
        self,
        connections: Connections,
        queries: Mapping[str, str],
        unit: UnitOfWork,
        on_published: Callable[[Sequence[OutboxRecord]], None],
        longest_wait_ms: int,
    ) -> None:
        self._connections = connections
        self._queries = queries
        self._unit = unit
        self._on_published = on_published
        self._longest_wait_ms = longest_wait_ms
        self._connection: Connection | None = None
        self._locks: Sequence[int] = ()
        self._known: Mapping[tuple[str, str], InboxState] = {}
        self._streams: Mapping[tuple[str, str], int] = {}
        self._asked = False
        self._begun = False

    async def __aenter__(self) -> PostgresTransaction:
        self._connection = await self._connections.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._open
        self._connection = None
        reusable = not self._asked and not self._begun
        try:
            if not reusable and not isinstance(error, GeneratorExit):
                reusable = await self._give_back(connection)
        finally:
            self._connections.release(connection, reusable=reusable)

    async def open(self, plan: Plan) -> Snapshot:
        with unwritable():
            given = self._unit.plan(plan, self._longest_wait_ms)
        self._locks = plan.locks
        self._asked = True
        with translated(self._open):
            record = await self._open.fetchrow(self._unit.open, *given)
        assert record is not None
        # Without locks nothing is held: there is nothing to give back.
        self._asked = bool(plan.locks)
        snapshot = self._unit.snapshot(plan, record)
        self._known, self._streams = snapshot.known, snapshot.emitted
        if snapshot.parked:
            self._known = {**snapshot.known, **{(each.key, each.identity): each.state for each in snapshot.parked}}
        return snapshot

    async def commit(self, changes: Changes, end: End = End.COMMIT) -> None:
        with unwritable():
            given, apart = self._unit.changes(changes, self._locks, self._known, self._streams)
        self._asked = True
        if end is End.ROLLBACK or apart or _is_rare(changes):
            answer = await self._write(changes, given, apart)
            if end is End.ROLLBACK:
                return
            await self._send(self._open.execute("COMMIT"))
            self._begun = False
        else:
            answer = await self._send(self._open.fetchrow(self._unit.commit, *given))
        self._asked = False
        reached(Point.TX_COMMITTED)
        if changes.outbox:
            self._on_published(published(changes.outbox, answer))

    async def _write(
        self, changes: Changes, given: Sequence[object], apart: Sequence[Statement]
    ) -> asyncpg.Record | None:
        """The function, and what is not in it, in a transaction that stays open."""
        self._begun = True
        with translated(self._open):
            await self._open.execute("BEGIN")
            answer = await self._open.fetchrow(self._unit.commit, *given)
        for statement in apart:
            with unwritable():
                touched = await self._execute(statement.sql, *statement.arguments)
            _require(touched, statement.rows, statement.table)
        with unwritable():
            await self._write_parked(changes)
            if approved := approvals_of(changes.log):
                with translated(self._open):
                    closed = await self._open.fetchval(
                        self._queries["close_proposals"], *map(list, zip(*approved, strict=True))
                    )
                if closed != len(approved):
                    raise ProposalClosedError
            if changes.log:
                await self._execute(self._queries["log_actions"], *functions.log_entries(changes.log))
        return answer

    async def _write_parked(self, changes: Changes) -> None:
        if changes.parked:
            await self._execute(self._queries["park"], changes.consumer, *functions.parked(changes.parked))
        if changes.reparked:
            await self._replace("repark", len(changes.reparked), *functions.reparked(changes.reparked))
        if failed := [*changes.parked, *changes.reparked]:
            dead = any(each.state is InboxState.DEAD for each in failed)
            reached(Point.EVENT_DEAD if dead else Point.EVENT_PARKED)
        if changes.edited:
            await self._replace("edit", len(changes.edited), *functions.edited(changes.edited))
        if changes.released:
            act = changes.discarding
            await self._replace(
                "release", len(changes.released), changes.released, act and act.who, act and act.reason
            )
            reached(Point.PARKED_RELEASED)

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("the transaction is not open")
        return self._connection

    async def _send(self, last: Awaitable[T]) -> T:
        """The call that ends it: once it has gone out, it may have been carried out, whatever comes back."""
        reached_when_sent(Point.TX_SENT)
        with unwritable(), translated(self._open):
            return await last

    async def _replace(self, query: str, wanted: int, *arguments: Any) -> None:
        with translated(self._open):
            touched = await self._open.fetchval(self._queries[query], *arguments)
        _require(touched, wanted, "parked_events")

    async def _execute(self, sql: str, *arguments: Any) -> int:
        """Returns how many rows were touched."""
        with translated(self._open):
            status = await self._open.execute(sql, *arguments)
        return int(status.rpartition(" ")[2])

    async def _give_back(self, connection: Connection) -> bool:
        """Take back what was written and give up all locks: whether the connection is fit for another use.

        It waits for a statement that was cancelled.
        """
        if connection.is_closed():
            return False
        try:
            async with asyncio.timeout(GIVE_BACK_TIMEOUT_S):
                if self._begun:
                    await connection.execute("ROLLBACK")
                await connection.execute(self._queries["give_up"])
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            return False
        return True


def _is_rare(changes: Changes) -> bool:
    return bool(changes.parked or changes.reparked or changes.edited or changes.released or changes.log)


def _require(touched: int, wanted: int, table: str) -> None:
    if touched != wanted:
        raise DataRefusedError(f"{table}: {wanted} rows were to be written, {touched} were")
