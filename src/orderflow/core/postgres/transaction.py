"""One unit of work on PostgreSQL: the arguments of its two calls, their results, and the transaction around them.

The functions that it calls are generated in `functions`. Their arguments are arrays, one per column, for a whole
batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from types import TracebackType
from typing import Any, TypeVar, get_type_hints

import asyncpg
import msgspec

from orderflow.core.crash_points import Point, reached, reached_when_sent
from orderflow.core.inbox import InboxEntry, InboxState
from orderflow.core.postgres import recovery
from orderflow.core.postgres.functions import LITERALS, UNSENT_BEFORE_MAX, Functions
from orderflow.core.postgres.recovery import PARKED, STATES, Values, encode_headers, read_parked
from orderflow.core.postgres.sessions import Connection, Connections, translated, unwritable
from orderflow.core.postgres.tables import Facts, Table, plain_type
from orderflow.core.service import Fact, Ref, Row
from orderflow.core.store import (
    Changes,
    DataRefusedError,
    End,
    FoundError,
    OpenIntent,
    OutboxRecord,
    ParkedQuery,
    Plan,
    ProposalClosedError,
    Snapshot,
    approvals_of,
)

GIVE_BACK_TIMEOUT_S = 5.0
T = TypeVar("T")
Literal = Callable[[Any], str]
"""Formats the values of an array as a PostgreSQL literal."""


class PostgresTransaction:
    """See `core.store.Transaction`. `on_published` is called after the commit with its outbox rows, and the ids of
    earlier unsent rows in their slots (None: unknown).

    Most units of work are two function calls. Rare changes (parked, reparked, edited or released events, and entries
    of the operators' log) are written by separate statements, in an explicit transaction.
    """

    def __init__(
        self,
        connections: Connections,
        queries: Mapping[str, str],
        unit: UnitOfWork,
        on_published: Callable[[Sequence[OutboxRecord], Sequence[int] | None], None],
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
        self._expecting: tuple[Plan, Sequence[object]] | None = None
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
        if plan.expects_nothing:
            self._expecting = plan, given
            return Snapshot()
        return await self._look(plan, given)

    async def _look(self, plan: Plan, given: Sequence[object]) -> Snapshot:
        self._asked = True
        with translated(self._open):
            record = await self._open.fetchrow(self._unit.functions.open, *given)
        assert record is not None
        # Without locks the session holds nothing that has to be released.
        self._asked = bool(plan.locks)
        snapshot = self._unit.snapshot(plan, record)
        self._known, self._streams = snapshot.known, snapshot.emitted
        if snapshot.parked:
            self._known = {**snapshot.known, **{(each.key, each.identity): each.state for each in snapshot.parked}}
        return snapshot

    async def commit(self, changes: Changes, end: End = End.COMMIT) -> None:
        with unwritable():
            given, apart = self._unit.changes(changes, self._locks, self._known, self._streams)
        is_long = end is End.ROLLBACK or bool(apart) or _is_rare(changes)
        expecting, self._expecting = self._expecting, None
        if expecting is not None and is_long:
            raise FoundError(await self._look(*expecting))
        self._asked = True
        if expecting is not None:
            answer = await self._send(self._open.fetchrow(self._unit.functions.at_once, *expecting[1], *given))
            if answer is None:
                raise FoundError(await self._look(*expecting))
        elif is_long:
            answer = await self._write(changes, given, apart)
            if end is End.ROLLBACK:
                return
            await self._send(self._open.execute("COMMIT"))
            self._begun = False
        else:
            answer = await self._send(self._open.fetchrow(self._unit.functions.commit, *given))
        self._asked = False
        reached(Point.TX_COMMITTED)
        if changes.outbox:
            self._on_published(*published(changes.outbox, answer))

    async def _write(
        self, changes: Changes, given: Sequence[object], apart: Sequence[SqlStatement]
    ) -> asyncpg.Record | None:
        """Call the function and run the separate statements, in a transaction that stays open."""
        self._begun = True
        with translated(self._open):
            await self._open.execute("BEGIN")
            answer = await self._open.fetchrow(self._unit.functions.commit, *given)
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
                await self._execute(self._queries["log_actions"], *recovery.log_entries(changes.log))
        return answer

    async def _write_parked(self, changes: Changes) -> None:
        if changes.parked:
            await self._execute(self._queries["park"], changes.consumer, *recovery.parked(changes.parked))
        if changes.reparked:
            await self._replace("repark", len(changes.reparked), *recovery.reparked(changes.reparked))
        if failed := [*changes.parked, *changes.reparked]:
            dead = any(each.state is InboxState.DEAD for each in failed)
            reached(Point.EVENT_DEAD if dead else Point.EVENT_PARKED)
        if changes.edited:
            await self._replace("edit", len(changes.edited), *recovery.edited(changes.edited))
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
        """Await the call that ends the unit of work: once it is sent it may take effect, whatever comes back."""
        reached_when_sent(Point.TX_SENT)
        with unwritable(), translated(self._open):
            return await last

    async def _replace(self, query: str, expected: int, *arguments: Any) -> None:
        with translated(self._open):
            touched = await self._open.fetchval(self._queries[query], *arguments)
        _require(touched, expected, "parked_events")

    async def _execute(self, sql: str, *arguments: Any) -> int:
        """Run a statement; returns how many rows it has touched."""
        with translated(self._open):
            status = await self._open.execute(sql, *arguments)
        return int(status.rpartition(" ")[2])

    async def _give_back(self, connection: Connection) -> bool:
        """Roll back and release all locks; returns whether the connection can be used again.

        It waits for a cancelled statement to end.
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


def _require(touched: int, expected: int, table: str) -> None:
    if touched != expected:
        raise DataRefusedError(f"{table}: {expected} rows were to be written, {touched} were")


class UnitOfWork:
    """Builds the arguments of a service's two functions, and reads their results."""

    def __init__(self, tables: Sequence[Table | Facts]) -> None:
        self.functions = Functions(tables)
        self.mappings = Mappings(tables)
        self._loads = [table.row_type for table in tables if isinstance(table, Table)]
        self._opening = _literals(self.functions.opened_by)
        self._committing = _literals(self.functions.committed_by)

    def plan(self, plan: Plan, longest_wait_ms: int) -> list[object]:
        """The arguments of the opening call. Events due later than `longest_wait_ms` from now count as due."""
        named = [message for message in plan.messages if message[1] is not None]
        keys, identities = [key for key, _ in named], [identity for _, identity in named]
        parked = plan.parked or ParkedQuery((), 0)
        row_ids: dict[type[Row], list[object]] = {}
        for ref in plan.rows:
            row_ids.setdefault(ref.type, []).append(ref.id)
        loads = [row_ids.pop(each, None) for each in self._loads]
        if row_ids:
            raise LookupError(
                f"the service's `tables` lack {', '.join(each.__name__ for each in row_ids)}: add it there"
            )
        batch = list(dict.fromkeys(key for key, _ in plan.messages))
        waiting = list(dict.fromkeys(parked.keys))
        head = [plan.consumer, plan.locks or None, keys or None, identities or None, batch or None, plan.depth_max]
        return _written([*head, waiting or None, parked.limit, parked.due, longest_wait_ms, *loads], self._opening)

    def snapshot(self, plan: Plan, record: asyncpg.Record) -> Snapshot:
        """The snapshot that the opening call has returned."""
        known: dict[tuple[str, str], Any] = {}
        depth: dict[str, int] = {}
        emitted: dict[tuple[str, str], int] = {}
        if record[0] is not None:
            for key, identity, state in zip(record[0], record[1], record[2], strict=True):
                known[key, identity] = STATES[state]
        if record[3] is not None:
            for key, source, count in zip(record[3], record[4], record[5], strict=True):
                emitted[source, key] = count
        if record[6] is not None:
            depth = dict(zip(record[6], record[7], strict=True))
        parked = []
        if record[self.functions.parked_at] is not None:
            columns = record[self.functions.parked_at : self.functions.parked_at + len(PARKED)]
            parked = [read_parked(dict(zip(PARKED, each, strict=True))) for each in zip(*columns, strict=True)]
        return Snapshot(known, depth, emitted, self._rows(plan, record), parked)

    def changes(
        self, changes: Changes, locks: Sequence[int], known: Container[object], streams: Container[object]
    ) -> tuple[list[object], list[SqlStatement]]:
        """The arguments of the committing call, and the statements that have no place in it.

        Raises LookupError, TypeError, ValueError for changes that cannot be written as SQL.
        """
        given: list[object] = [None] * len(self.functions.committed_by)
        given[0] = changes.consumer
        given[1] = locks or None
        fresh: list[InboxEntry] = []
        again: list[InboxEntry] = []
        for entry in changes.inbox:
            (again if (entry.key, entry.identity) in known else fresh).append(entry)
        emitted = changes.emitted.items()
        begun = [(key, source, n) for (source, key), n in emitted if (source, key) not in streams]
        continued = [(key, source, n) for (source, key), n in emitted if (source, key) in streams]
        place = 2
        for width, some in (
            (4, _inbox(fresh)),
            (4, _inbox(again)),
            (3, begun),
            (3, continued),
            (6, _outbox(changes.outbox)),
            (1, [(each,) for each in changes.closed_intents]),
            (8, _intents(changes.opened, changes.lease_ms)),
            (8, _intents(changes.postponed, None)),
        ):
            if some:
                given[place : place + width] = zip(*some, strict=True)
            place += width
        apart = self._fill(given, changes)
        return _written(given, self._committing), apart

    def _fill(self, given: list[object], changes: Changes) -> list[SqlStatement]:
        """Put the rows and facts into their arguments; returns the statements without a place there."""
        apart: list[SqlStatement] = []
        for statement in self.mappings.statements(changes):
            if not statement.sql:
                raise LookupError(f"{statement.table}: a row is new, and no insert was given")
            place = self.functions.places.get(statement.sql)
            if place is None:
                apart.append(statement)
                continue
            first, end = place.first, place.first + place.width
            before = given[first:end]
            arrays: Sequence[object] = statement.arguments
            if before[0] is not None:
                arrays = [[*one, *other] for one, other in zip(before, statement.arguments, strict=True)]  # type: ignore[misc]
            given[first:end] = arrays
            if place.stepwise:
                sizes: Any = given[end] or ()
                given[end] = [*sizes, statement.rows]
        return apart

    def _rows(self, plan: Plan, record: asyncpg.Record) -> Mapping[Ref, Row]:
        loaded: dict[Ref, Row] = {}
        for row_type in dict.fromkeys(ref.type for ref in plan.rows):
            columns, first = self.mappings.columns(row_type), self.functions.loaded_at[row_type]
            arrays = record[first : first + columns.width]
            if arrays[0] is None:
                continue
            for values in zip(*arrays, strict=True):
                row = columns.build(values)
                assert isinstance(row, Row)
                loaded[Ref(row_type, row.id)] = row
        return loaded


def published(
    records: Sequence[OutboxRecord], answer: asyncpg.Record | None
) -> tuple[list[OutboxRecord], Sequence[int] | None]:
    """The outbox rows with their assigned ids and times, and the ids of earlier unsent rows in their slots (None:
    unknown).
    """
    if not records or answer is None:
        return [], None
    ids, times, before = answer[0], answer[1], answer[2]
    rows = [
        msgspec.structs.replace(record, id=number, created_at=at)
        for record, number, at in zip(records, ids, times, strict=True)
    ]
    return rows, before if len(before) <= UNSENT_BEFORE_MAX else None


def _inbox(entries: Sequence[InboxEntry]) -> list[Values]:
    return [(e.key, e.identity, e.event_id, e.state) for e in entries]


def _outbox(records: Sequence[OutboxRecord]) -> list[Values]:
    return [(r.slot, r.topic, r.key, r.value, encode_headers(r.headers), r.event_id) for r in records]


def _intents(opened: Sequence[OpenIntent], lease_ms: int | None) -> list[Values]:
    """The columns of these intents; their delay is `lease_ms`, if given."""
    return [
        (
            o.intent.key,
            o.intent.kind,
            msgspec.json.encode(o.intent.request).decode(),
            o.key,
            o.cause,
            o.traceparent,
            o.attempts,
            o.delay_ms if lease_ms is None else lease_ms,
        )
        for o in opened
    ]


class Mappings:
    """Turns rows and facts into the statements of a service's tables, in the order in which these are written."""

    def __init__(self, tables: Sequence[Table | Facts]) -> None:
        self._tables = tuple(tables)
        self._columns = {_type_of(table): Columns(_type_of(table)) for table in tables}
        self._changing = {
            table.row_type: Columns(table.row_type, table.changing) for table in tables if isinstance(table, Table)
        }

    def columns(self, row_type: type[Row]) -> Columns:
        """The columns from which a row of this type is loaded."""
        return self._columns[row_type]

    def statements(self, changes: Changes) -> list[SqlStatement]:
        """The statements for the rows and facts of a batch, in order. Raises LookupError for unknown types."""
        written: dict[type, list[Any]] = {}
        for struct in (*changes.rows, *changes.facts):
            written.setdefault(type(struct), []).append(struct)
        planned: list[SqlStatement] = []
        for table in self._tables:
            structs = written.pop(_type_of(table), None)
            if structs and isinstance(table, Table):
                planned.extend(self._row_statements(table, structs, changes.existing))
            elif structs and isinstance(table, Facts):
                arrays = self._columns[table.fact_type].arrays(structs)
                planned.append(SqlStatement(table.fact_type.TABLE, table.append, arrays, len(structs)))
        if written:
            raise LookupError(f"no Table or Facts was given for {', '.join(t.__name__ for t in written)}")
        return planned

    def _row_statements(self, table: Table, rows: Sequence[Row], existing: frozenset[Ref]) -> Iterable[SqlStatement]:
        for number, wave in enumerate(_waves(rows) if table.stepwise else [{row.id: row for row in rows}]):
            fresh = [row for row in wave.values() if number == 0 and Ref(table.row_type, row.id) not in existing]
            known = [row for row in wave.values() if number or Ref(table.row_type, row.id) in existing]
            if fresh:
                arrays = self._columns[table.row_type].arrays(fresh)
                yield SqlStatement(table.row_type.TABLE, table.insert, arrays, len(fresh))
            if known:
                arrays = self._changing[table.row_type].arrays(known)
                yield SqlStatement(table.row_type.TABLE, table.update, arrays, len(known))


@dataclass(frozen=True, slots=True)
class SqlStatement:
    """A set-based statement that must touch exactly `rows` rows."""

    table: str
    sql: str
    arguments: Sequence[Sequence[object]]
    rows: int


class Columns:
    """Turns structs of one type into column arrays and a loaded record into a struct."""

    def __init__(self, struct: type[msgspec.Struct], only: Sequence[str] = ()) -> None:
        self._struct = struct
        self._names = tuple(only) or tuple(field.name for field in msgspec.structs.fields(struct))
        self._get = attrgetter(*self._names)
        hints = get_type_hints(struct)
        self.width = len(self._names)
        self._nested: list[int] = []
        self._readers: list[tuple[int, Callable[[Any], object]]] = []
        for index, name in enumerate(self._names):
            plain = plain_type(hints[name])
            if plain is None:
                self._nested.append(index)
                self._readers.append((index, msgspec.json.Decoder(hints[name]).decode))
            elif issubclass(plain, Enum):
                self._readers.append((index, plain))

    def arrays(self, structs: Iterable[msgspec.Struct]) -> list[Sequence[object]]:
        """The structs as arrays, one per field."""
        if len(self._names) == 1:
            columns: list[Sequence[object]] = [[self._get(struct) for struct in structs]]
        else:
            columns = list(zip(*map(self._get, structs), strict=True))
        for index in self._nested:
            columns[index] = [None if v is None else msgspec.json.encode(v).decode() for v in columns[index]]
        return columns

    def build(self, record: Iterable[object]) -> msgspec.Struct:
        """Build a struct from a record with one column per field, in order. Raises ValueError if it has others."""
        values = list(record)
        for index, read in self._readers:
            if values[index] is not None:
                values[index] = read(values[index])
        return self._struct(**dict(zip(self._names, values, strict=True)))


def _type_of(table: Table | Facts) -> type[Row] | type[Fact]:
    return table.row_type if isinstance(table, Table) else table.fact_type


def _waves(rows: Sequence[Row]) -> list[dict[object, Row]]:
    """The versions of the rows in waves: the first version of each, then the second, and so on."""
    waves: list[dict[object, Row]] = []
    seen: dict[object, int] = {}
    for row in rows:
        number = seen.get(row.id, 0)
        seen[row.id] = number + 1
        if number == len(waves):
            waves.append({})
        waves[number][row.id] = row
    return waves


def text_literal(values: Sequence[str | None]) -> str:
    """An array of texts as a PostgreSQL literal. Raises TypeError for other values."""
    if not values:
        return "{}"
    try:
        joined = '","'.join(values)  # type: ignore[arg-type]  # raises where one is None
    except TypeError:
        return f"{{{','.join(map(_quoted, values))}}}"
    if "\\" in joined or joined.count('"') > 2 * (len(values) - 1):
        return f"{{{','.join(map(_quoted, values))}}}"
    return f'{{"{joined}"}}'


def number_literal(values: Sequence[int | bool | None]) -> str:
    """An array of integers or booleans as a PostgreSQL literal: as in JSON, except for the brackets."""
    return f"{{{msgspec.json.encode(values)[1:-1].decode()}}}"


def _quoted(value: str | None) -> str:
    if value is None:
        return "NULL"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _literals(kinds: Sequence[str]) -> Sequence[tuple[int, Literal]]:
    """The indexes of the arguments that are passed as literals, each with its formatter."""
    found = [(place, kind) for place, kind in enumerate(kinds) if kind in LITERALS]
    return [(place, text_literal if kind == "text[]" else number_literal) for place, kind in found]


def _written(given: list[object], literals: Sequence[tuple[int, Literal]]) -> list[object]:
    for place, literal in literals:
        if given[place] is not None:
            given[place] = literal(given[place])
    return given
