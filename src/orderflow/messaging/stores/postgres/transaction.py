"""One transaction of the one way in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType

import asyncpg
import msgspec

from orderflow.messaging.crash_points import Point, reached
from orderflow.messaging.inbox import InboxEntry, InboxState, ParkedEvent
from orderflow.messaging.rows import Ref, Row
from orderflow.messaging.store import DEPTH_LIMIT, Changes, DataRefusedError, OutboxRecord, Recognition
from orderflow.messaging.stores.postgres import core_rows
from orderflow.messaging.stores.postgres.connections import Connection, Connections
from orderflow.messaging.stores.postgres.errors import translated, unwritable
from orderflow.messaging.stores.postgres.tables import Mappings

ROLLBACK_TIMEOUT_S = 5.0


class PostgresTransaction:
    """Begun by its first statement, ended by leaving the block. See `messaging.store.Transaction`.

    `published` is called after the commit with the outbox rows that it has written.
    """

    def __init__(
        self,
        connections: Connections,
        queries: Mapping[str, str],
        mappings: Mappings,
        published: Callable[[Sequence[OutboxRecord]], None],
        longest_wait_ms: int,
    ) -> None:
        self._connections = connections
        self._queries = queries
        self._mappings = mappings
        self._published = published
        self._longest_wait_ms = longest_wait_ms
        self._connection: Connection | None = None
        self._begun = False
        self._known: dict[tuple[str, str], InboxState] = {}
        self._streams: set[tuple[str, str]] = set()
        self._outbox: list[OutboxRecord] = []

    async def __aenter__(self) -> PostgresTransaction:
        self._connection = await self._connections.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._open
        self._connection = None
        reusable = not self._begun
        try:
            if self._begun and error is None:
                with translated(connection):
                    if await connection.execute("COMMIT") != "COMMIT":
                        raise DataRefusedError("the transaction had failed before; nothing was committed")
                reached(Point.TX_COMMITTED)
                reusable = True
                if self._outbox:
                    self._published(self._outbox)
            elif self._begun and not isinstance(error, GeneratorExit):
                reusable = await _rollback(connection)
        finally:
            self._connections.release(connection, reusable=reusable)

    async def lock(self, locks: Sequence[int]) -> None:
        """One round trip with BEGIN. An array is unnested in its order, and the function is called as it goes;
        the statements after it take snapshots of their own, so they see what the last holder committed.
        """
        begin = "" if self._begun else "BEGIN;"
        self._begun = True
        numbers = ",".join(map(str, map(int, locks)))
        take = self._queries["lock"].replace("$1", f"'{{{numbers}}}'")
        with translated(self._open):
            await self._open.execute(begin + take)

    async def recognise(
        self, consumer: str, messages: Sequence[tuple[str, str | None]], depth_limit: int = DEPTH_LIMIT
    ) -> Recognition:
        keys = list(dict.fromkeys(key for key, _ in messages))
        named = [message for message in messages if message[1] is not None]
        rows = await self._fetch("recognise", consumer, *core_rows.names(named), keys, depth_limit)
        known: dict[tuple[str, str], InboxState] = {}
        emitted: dict[tuple[str, str], int] = {}
        depth: dict[str, int] = {}
        for kind, key, text, number in rows:
            if kind == 1:
                known[key, text] = core_rows.STATES[number]
            elif kind == 2:
                emitted[text, key] = number
            else:
                depth[key] = number
        self._known |= known
        self._streams.update(emitted)
        return Recognition(known, frozenset(depth), emitted, depth)

    async def load(self, refs: Iterable[Ref]) -> dict[Ref, Row]:
        wanted: dict[type[Row], dict[object, None]] = {}
        for row_type, row_id in refs:
            wanted.setdefault(row_type, {})[row_id] = None
        loaded: dict[Ref, Row] = {}
        for row_type, ids in wanted.items():
            sql, columns = self._mappings.load(row_type)
            await self._begin()
            with translated(self._open):
                records = await self._open.fetch(sql, list(ids))
            for record in records:
                row = columns.build(record.values())
                assert isinstance(row, Row)
                loaded[Ref(row_type, row.id)] = row
        return loaded

    async def parked(self, consumer: str, keys: Sequence[str], limit: int) -> Sequence[ParkedEvent]:
        wanted = list(dict.fromkeys(keys))
        return self._waiting(await self._fetch("parked", consumer, wanted, limit, self._longest_wait_ms))

    async def sequence(self, consumer: str, key: str, limit: int) -> Sequence[ParkedEvent]:
        return self._waiting(await self._fetch("sequence", consumer, key, limit))

    def _waiting(self, rows: Sequence[asyncpg.Record]) -> Sequence[ParkedEvent]:
        events = [core_rows.read_parked(row) for row in rows]
        self._known |= {(event.key, event.identity): event.state for event in events}
        return events

    async def write(self, changes: Changes) -> None:
        with unwritable():
            await self._write(changes)

    async def _write(self, changes: Changes) -> None:
        for statement in self._mappings.statements(changes):
            touched = await self._execute(statement.sql, *statement.arguments)
            _require(touched, statement.rows, statement.table)
        reached(Point.TX_ROWS_WRITTEN)
        await self._write_inbox(changes)
        reached(Point.TX_OUTBOX_WRITTEN)
        await self._write_parked(changes)
        await self._write_intents(changes)
        for each in changes.log:
            await self._run("log_action", each.act.who, each.action, each.target, each.act.reason, each.result)
        reached(Point.TX_COMMITTING)

    async def _write_inbox(self, changes: Changes) -> None:
        """What was recognised is replaced, or goes on; the rest must be new, else the dedupe has failed."""
        fresh: list[InboxEntry] = []
        known: list[InboxEntry] = []
        for entry in changes.inbox:
            (known if (entry.key, entry.identity) in self._known else fresh).append(entry)
        if changes.outbox or changes.emitted:
            begun = {stream: n for stream, n in changes.emitted.items() if stream not in self._streams}
            continued = {stream: n for stream, n in changes.emitted.items() if stream in self._streams}
            streams = (*core_rows.streams(begun), *core_rows.streams(continued))
            arrays = (*core_rows.inbox(fresh), *streams, *core_rows.outbox(changes.outbox))
            (row,) = await self._fetch("add_inbox_and_outbox", changes.consumer, *arrays)
            touched, ids, times = row
            _require(touched, len(continued), "streams")
            for record, number, created_at in zip(changes.outbox, ids or (), times or (), strict=True):
                self._outbox.append(msgspec.structs.replace(record, id=number, created_at=created_at))
        elif fresh:
            await self._run("add_inbox", changes.consumer, *core_rows.inbox(fresh))
        if known:
            touched = await self._run("replace_inbox", changes.consumer, *core_rows.inbox(known))
            _require(touched, len(known), "processed_events")

    async def _write_parked(self, changes: Changes) -> None:
        if changes.parked:
            await self._run("park", changes.consumer, *core_rows.parked(changes.parked))
        if changes.reparked:
            rows = await self._fetch("repark", *core_rows.reparked(changes.reparked))
            _require(rows[0][0], len(changes.reparked), "parked_events")
        if failed := [*changes.parked, *changes.reparked]:
            dead = any(each.state is InboxState.DEAD for each in failed)
            reached(Point.EVENT_DEAD if dead else Point.EVENT_PARKED)
        if changes.edited:
            rows = await self._fetch("edit", *core_rows.edited(changes.edited))
            _require(rows[0][0], len(changes.edited), "parked_events")
        if changes.released:
            act = changes.discarding
            rows = await self._fetch("release", changes.released, act and act.who, act and act.reason)
            _require(rows[0][0], len(changes.released), "parked_events")
            reached(Point.PARKED_RELEASED)

    async def _write_intents(self, changes: Changes) -> None:
        if changes.closed_intents:
            await self._run("close_intents", changes.closed_intents)
        if changes.opened:
            await self._run("open_intents", *core_rows.intents(changes.opened, changes.lease_ms))
        if changes.postponed:
            await self._run("postpone_intents", *core_rows.intents(changes.postponed, None))

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("the transaction is not open")
        return self._connection

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            with translated(self._open):
                await self._open.execute("BEGIN")

    async def _fetch(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        await self._begin()
        with translated(self._open):
            return await self._open.fetch(self._queries[query], *arguments)

    async def _run(self, query: str, *arguments: object) -> int:
        return await self._execute(self._queries[query], *arguments)

    async def _execute(self, sql: str, *arguments: object) -> int:
        """Returns how many rows were touched."""
        await self._begin()
        with translated(self._open):
            status = await self._open.execute(sql, *arguments)
        return int(status.rpartition(" ")[2])


def _require(touched: int, wanted: int, table: str) -> None:
    if touched != wanted:
        raise DataRefusedError(f"{table}: {wanted} rows were to be written, {touched} were")


async def _rollback(connection: Connection) -> bool:
    """Whether the connection is fit for another use. It waits for a statement that was cancelled."""
    if connection.is_closed():
        return False
    try:
        async with asyncio.timeout(ROLLBACK_TIMEOUT_S):
            await connection.execute("ROLLBACK")
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return False
    return True
