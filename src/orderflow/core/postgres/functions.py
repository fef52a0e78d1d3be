"""The core's own rows as column arrays, and back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from orderflow.core.inbox import EditedEvent, Failure, InboxEntry, InboxState, ParkedEvent
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.sessions import IDLE_IN_TRANSACTION_TIMEOUT_MS, Connection
from orderflow.core.postgres.tables import Facts, Mappings, Statement, Table
from orderflow.core.service import Intent, Ref, Row
from orderflow.core.store import (
    Changes,
    Due,
    LogEntry,
    OpenIntent,
    OutboxRecord,
    ParkedQuery,
    Plan,
    Snapshot,
    Standing,
    Unending,
    WorkKind,
)
from orderflow.core.transport import ConsumerRecord, Headers

Arrays = Sequence[Sequence[object]]

encode_headers = msgspec.msgpack.Encoder().encode
decode_headers = msgspec.msgpack.Decoder(Headers).decode
STATES: Mapping[int, InboxState] = {state.value: state for state in InboxState}


def names(messages: Sequence[tuple[object, ...]]) -> Arrays:
    return _columns(messages, 2)


def inbox(entries: Sequence[InboxEntry]) -> Arrays:
    return _columns([(e.key, e.identity, e.event_id, e.state) for e in entries], 4)


def stream_columns(emitted: Mapping[tuple[str, str], int]) -> Arrays:
    return _columns([(key, source, count) for (source, key), count in emitted.items()], 3)


def outbox(records: Sequence[OutboxRecord]) -> Arrays:
    return _columns([(r.slot, r.topic, r.key, r.value, encode_headers(r.headers), r.event_id) for r in records], 6)


def parked(events: Sequence[ParkedEvent]) -> Arrays:
    return _columns([(*_record(e), e.state, e.attempts, *_failure(e.failure), e.delay_ms) for e in events], 19)


def reparked(events: Sequence[ParkedEvent]) -> Arrays:
    return _columns([(e.position, e.state, e.attempts, *_failure(e.failure), e.delay_ms) for e in events], 8)


def edited(events: Sequence[EditedEvent]) -> Arrays:
    return _columns(
        [(e.position, e.event_id, e.identity, e.event_type, *_content(e.record), e.who) for e in events], 8
    )


def log_entries(entries: Sequence[LogEntry]) -> Arrays:
    return _columns([(e.act.who, e.action, e.target, e.act.reason, e.result) for e in entries], 5)


def intents(opened: Sequence[OpenIntent], lease_ms: int | None) -> Arrays:
    """`lease_ms` in place of their own delay, if given."""
    return _columns(
        [
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
        ],
        8,
    )


def read_parked(row: asyncpg.Record | Mapping[str, Any]) -> ParkedEvent:
    """From a row of `parked_events`."""
    failure = None
    first_failed_at = row["first_failed_at"]
    if row["failure_kind"] is not None:
        failure = Failure(row["failure_kind"], row["error"], row["message"], row["fingerprint"])
    return ParkedEvent(
        key=row["key"],
        identity=row["identity"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        record=ConsumerRecord(
            topic=row["topic"],
            partition=row["partition"],
            offset=row["offset"],
            key=row["record_key"],
            value=row["record_value"],
            headers=decode_headers(row["record_headers"]),
            timestamp=row["record_timestamp"],
        ),
        state=STATES[row["state"]],
        attempts=row["attempts"],
        failure=failure,
        position=row["position"],
        intent=row["intent"],
        first_failed_at=int(first_failed_at.timestamp() * 1000) if first_failed_at else None,
        replays=row["replays"],
    )


def read_intent(row: asyncpg.Record) -> OpenIntent:
    key, kind, request, message_key, cause, traceparent, attempts = row
    return OpenIntent(
        intent=Intent(key=key, kind=kind, request=msgspec.json.decode(request)),
        key=message_key,
        cause=cause,
        traceparent=traceparent,
        attempts=attempts,
    )


def read_outbox(row: asyncpg.Record) -> OutboxRecord:
    number, slot, topic, key, value, headers, event_id, created_at = row
    return OutboxRecord(
        topic=topic,
        key=key,
        value=value,
        headers=decode_headers(headers),
        event_id=event_id,
        slot=slot,
        id=number,
        created_at=created_at,
    )


def _record(event: ParkedEvent) -> tuple[object, ...]:
    record = event.record
    where = (event.key, event.identity, event.event_id, event.event_type, record.topic, record.partition)
    return (*where, record.offset, *_content(record), record.timestamp, event.intent)


def _content(record: ConsumerRecord) -> tuple[bytes | None, ...]:
    return (record.key, record.value, encode_headers(record.headers))


def _failure(failure: Failure | None) -> tuple[str | None, ...]:
    if failure is None:
        return (None, None, None, None)
    return (failure.kind, failure.error, failure.message, failure.fingerprint)


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> Arrays:
    return tuple(zip(*rows, strict=True)) if rows else ((),) * width


def read_standing(rows: Sequence[asyncpg.Record]) -> Standing:
    """`due` rows are places, or count replays; the others are what is old."""
    found = [r for r in rows if r["due"] and r["kind"] != "replay"]
    due = [Due(WorkKind(r["kind"]), r["consumer"], r["place"], r["count"], r["oldest"]) for r in found]
    replays = sum(r["count"] for r in rows if r["kind"] == "replay")
    old = [r for r in rows if not r["due"]]
    unending = [Unending(WorkKind(r["kind"]), r["consumer"], r["count"], r["age_ms"], r["oldest"]) for r in old]
    return Standing(due, unending, replays)


PACKAGE = "orderflow.core.postgres"
ARGUMENTS_MAX = 100
"""PostgreSQL's own bound (FUNC_MAX_ARGS). Tables that need more are written by statements of their own."""

KEPT = 2
"""So many functions of other releases stay: the one before this one may still run."""

PARKED: Mapping[str, str] = {
    "key": "text",
    "identity": "text",
    "event_id": "uuid",
    "event_type": "text",
    "topic": "text",
    "partition": "integer",
    "offset": "bigint",
    "record_key": "bytea",
    "record_value": "bytea",
    "record_headers": "bytea",
    "record_timestamp": "bigint",
    "intent": "text",
    "state": "smallint",
    "attempts": "integer",
    "failure_kind": "text",
    "error": "text",
    "message": "text",
    "fingerprint": "text",
    "position": "bigint",
    "first_failed_at": "timestamptz",
    "replays": "integer",
}
INBOX = ("text[]", "text[]", "uuid[]", "smallint[]")
STREAMS = ("text[]", "text[]", "bigint[]")
OUTBOX = ("smallint[]", "text[]", "bytea[]", "bytea[]", "bytea[]", "uuid[]")
INTENTS = ("text[]", "text[]", "text[]", "text[]", "uuid[]", "text[]", "integer[]", "bigint[]")

_PLACEHOLDER = re.compile(r"\$(\d+)")
_TYPED = re.compile(r"\$(\d+)::([a-z ]+\[\])")
_NAME = "orderflow_{}_{}"
_TEMPLATES = load_queries(PACKAGE, "functions.sql")


class _Draft:
    """A function while it is written: what it is given, what it returns, and what it does."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.returned: list[tuple[str, str]] = []
        self.body: list[str] = []

    def take(self, *types: str) -> list[int]:
        """So many arguments more; their numbers."""
        first = len(self.given) + 1
        self.given += types
        return list(range(first, first + len(types)))

    def give(self, name: str, *types: str) -> list[str]:
        """So many values more to return; their names."""
        names = [f"{name}_{number}" for number in range(len(types))]
        self.returned += zip(names, types, strict=True)
        return names

    def do(self, guard: int, *statements: str) -> None:
        """Unless the array that is argument `guard` is empty, or not given."""
        body = "\n".join(f"{each}\n;" for each in statements)
        self.body.append(_text("unless_empty", guard=guard, statements=body))

    def read(self, guard: int, name: str, types: Sequence[str], query: str) -> None:
        """Return the columns of a query as arrays."""
        columns = [f"c{number}" for number in range(len(types))]
        names = ", ".join(self.give(name, *(f"{each}[]" for each in types)))
        arrays = ", ".join(f"array_agg(q.{c}::{each})" for c, each in zip(columns, types, strict=True))
        self.do(guard, _text("read", arrays=arrays, names=names, query=query, columns=", ".join(columns)))

    def write(self, table: str, guard: int, statement: str, *, counted: bool = True) -> None:
        """Touch one row for each element, or raise."""
        check = [_text("check", table=table, wanted=f"cardinality(${guard})")] if counted else []
        self.do(guard, statement, *check)

    def text(self, name: str) -> str:
        given = [*self.given, *(f"OUT {each} {kind}" for each, kind in self.returned)]
        body = "\n".join(f"{each}\n;" for each in self.body)
        return _text("create", name=name, given=", ".join(given), body=body)


class UnitOfWork:
    """The functions of one service, and how they are called."""

    def __init__(self, tables: Sequence[Table | Facts]) -> None:
        self.mappings = Mappings(tables)
        self._queries = load_queries(PACKAGE)
        self._loads = [table for table in tables if isinstance(table, Table)]
        self._places: dict[str, tuple[int, int, bool]] = {}
        self.apart: set[str] = set()
        """Statements that are not in the function."""

        opening, committing = self._opening(), self._committing(tables)
        drafted = opening.text("open") + committing.text("commit")
        self.hash = hashlib.sha256(drafted.encode()).hexdigest()[:12]
        self.names = (_NAME.format("open", self.hash), _NAME.format("commit", self.hash))
        self.texts = (opening.text(self.names[0]), committing.text(self.names[1]))
        self.open, self.commit = (
            _text("call", name=name, given=", ".join(f"${n + 1}" for n in range(len(draft.given))))
            for name, draft in zip(self.names, (opening, committing), strict=True)
        )
        self._loaded_at = {
            table.row_type: next(n for n, each in enumerate(opening.returned) if each[0] == f"load{place}_0")
            for place, table in enumerate(self._loads)
        }
        self._parked_at = next(n for n, each in enumerate(opening.returned) if each[0] == "parked_0")
        self._count = len(committing.given)

    def plan(self, plan: Plan, longest_wait_ms: int) -> list[object]:
        """The arguments that open it. What is due later than the longest wait from now is due."""
        named = [message for message in plan.messages if message[1] is not None]
        keys, identities = names(named)
        parked = plan.parked or ParkedQuery((), 0)
        wanted: dict[type[Row], list[object]] = {}
        for ref in plan.rows:
            wanted.setdefault(ref.type, []).append(ref.id)
        loads = [wanted.pop(table.row_type, None) for table in self._loads]
        if wanted:
            raise LookupError(f"no Table was given for {', '.join(each.__name__ for each in wanted)}")
        batch = list(dict.fromkeys(key for key, _ in plan.messages))
        waiting = list(dict.fromkeys(parked.keys))
        head = [plan.consumer, plan.locks or None, keys, identities, batch, plan.depth_max]
        return [*head, waiting or None, parked.limit, parked.due, longest_wait_ms, *loads]

    def snapshot(self, plan: Plan, record: asyncpg.Record) -> Snapshot:
        """What the function has returned."""
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
        if record[self._parked_at] is not None:
            columns = record[self._parked_at : self._parked_at + len(PARKED)]
            parked = [read_parked(dict(zip(PARKED, each, strict=True))) for each in zip(*columns, strict=True)]
        return Snapshot(known, depth, emitted, self._rows(plan, record), parked)

    def changes(
        self, changes: Changes, locks: Sequence[int], known: Container[object], streams: Container[object]
    ) -> tuple[list[object], list[Statement]]:
        """The arguments that commit it, and what is to be written apart.

        Raises LookupError, TypeError, ValueError: something cannot become a statement.
        """
        given: list[object] = [None] * self._count
        given[0] = changes.consumer
        given[1] = locks or None
        place = 2
        fresh: list[InboxEntry] = []
        again: list[InboxEntry] = []
        for entry in changes.inbox:
            (again if (entry.key, entry.identity) in known else fresh).append(entry)
        begun = {stream: n for stream, n in changes.emitted.items() if stream not in streams}
        continued = {stream: n for stream, n in changes.emitted.items() if stream in streams}
        for width, some, arrays in (
            (4, fresh, inbox),
            (4, again, inbox),
            (3, begun, stream_columns),
            (3, continued, stream_columns),
            (6, changes.outbox, outbox),
        ):
            if some:
                given[place : place + width] = arrays(some)  # type: ignore[arg-type]
            place += width
        given[place] = changes.closed_intents or None
        if changes.opened:
            given[place + 1 : place + 9] = intents(changes.opened, changes.lease_ms)
        if changes.postponed:
            given[place + 9 : place + 17] = intents(changes.postponed, None)
        return given, self._fill(given, changes)

    def _fill(self, given: list[object], changes: Changes) -> list[Statement]:
        """Put the rows and facts in their places; returns what has none."""
        apart: list[Statement] = []
        for statement in self.mappings.statements(changes):
            if not statement.sql:
                raise LookupError(f"{statement.table}: a row is new, and no insert was given")
            where = self._places.get(statement.sql)
            if where is None:
                apart.append(statement)
                continue
            place, width, stepwise = where
            before = given[place : place + width]
            arrays: Sequence[object] = statement.arguments
            if before[0] is not None:
                arrays = [[*one, *other] for one, other in zip(before, statement.arguments, strict=True)]  # type: ignore[misc]
            given[place : place + width] = arrays
            if stepwise:
                sizes: Any = given[place + width] or ()
                given[place + width] = [*sizes, statement.rows]
        return apart

    def _rows(self, plan: Plan, record: asyncpg.Record) -> Mapping[Ref, Row]:
        loaded: dict[Ref, Row] = {}
        for row_type in dict.fromkeys(ref.type for ref in plan.rows):
            _, columns = self.mappings.load(row_type)
            first = self._loaded_at[row_type]
            arrays = record[first : first + len(columns.types)]
            if arrays[0] is None:
                continue
            for values in zip(*arrays, strict=True):
                row = columns.build(values)
                assert isinstance(row, Row)
                loaded[Ref(row_type, row.id)] = row
        return loaded

    def _opening(self) -> _Draft:
        draft, queries = _Draft(), self._queries
        consumer, locks, keys, identities, batch, depth_max = draft.take(
            "text", "bigint[]", "text[]", "text[]", "text[]", "integer"
        )
        waiting, waiting_max, due, longest = draft.take("text[]", "integer", "boolean", "bigint")
        draft.do(locks, _text("take_locks", locks=locks, timeout_ms=IDLE_IN_TRANSACTION_TIMEOUT_MS))
        known = _placed(queries["known"], consumer, keys, identities)
        draft.read(keys, "known", ("text", "text", "smallint"), known)
        draft.read(batch, "streams", ("text", "text", "bigint"), _placed(queries["streams"], batch))
        depths = _placed(queries["depths"], consumer, batch, depth_max)
        draft.read(batch, "depths", ("text", "bigint"), depths)
        parked = _placed(queries["waiting"], consumer, waiting, waiting_max, due, longest)
        draft.read(waiting, "parked", tuple(PARKED.values()), parked)
        for place, table in enumerate(self._loads):
            sql, columns = self.mappings.load(table.row_type)
            (ids,) = draft.take(_types(sql, table)[0])
            draft.read(ids, f"load{place}", columns.types, _placed(sql, ids))
        return draft

    def _committing(self, tables: Sequence[Table | Facts]) -> _Draft:
        draft, queries = _Draft(), self._queries
        consumer, locks = draft.take("text", "bigint[]")
        fresh, known = draft.take(*INBOX), draft.take(*INBOX)
        begun, continued = draft.take(*STREAMS), draft.take(*STREAMS)
        outbox, closed = draft.take(*OUTBOX), draft.take("text[]")
        opened, postponed = draft.take(*INTENTS), draft.take(*INTENTS)
        draft.do(locks, _text("keep_locks", locks=locks))
        for sql, table, stepwise in _writes(tables):
            self._write(draft, sql, table, stepwise=stepwise)
        draft.write("processed_events", fresh[0], _placed(queries["add_inbox"], consumer, *fresh), counted=False)
        draft.write("processed_events", known[0], _placed(queries["replace_inbox"], consumer, *known))
        draft.write("streams", begun[0], _placed(queries["begin_streams"], *begun), counted=False)
        draft.write("streams", continued[0], _placed(queries["continue_streams"], *continued))
        ids, times = draft.give("outbox", "bigint[]", "bigint[]")
        draft.do(outbox[0], f"{_placed(queries['add_outbox'], *outbox)} INTO {ids}, {times}")
        draft.write("intents", closed[0], _placed(queries["close_intents"], *closed), counted=False)
        draft.write("intents", opened[0], _placed(queries["open_intents"], *opened), counted=False)
        draft.write("intents", postponed[0], _placed(queries["postpone_intents"], *postponed), counted=False)
        return draft

    def _write(self, draft: _Draft, sql: str, table: Table | Facts, *, stepwise: bool) -> None:
        """A statement of the service's own; with `stepwise` once for each wave of versions, by their sizes."""
        types = _types(sql, table)
        if self.apart or len(draft.given) + len(types) + stepwise > ARGUMENTS_MAX:
            self.apart.add(sql)
            return
        places = draft.take(*types)
        self._places[sql] = (places[0] - 1, len(places), stepwise)
        name = _table_of(table)
        if not stepwise:
            draft.write(name, places[0], _placed(sql, *places))
            return
        (sizes,) = draft.take("integer[]")
        wave = _PLACEHOLDER.sub(lambda match: f"${places[int(match[1]) - 1]}[v_from:v_to]", sql)
        check = _text("check", table=name, wanted="v_size")
        draft.do(sizes, _text("waves", sizes=sizes, statement=wave, check=check))


async def install(connection: Connection, unit: UnitOfWork) -> None:
    """Make this release's functions where they are missing, and drop those of releases that are long gone.

    To be called in a transaction that holds the lock of migrations.
    """
    queries = load_queries(PACKAGE, "migrations.sql")
    found = [row["hash"] for row in await connection.fetch(queries["functions"])]
    if unit.hash not in found:
        for text in unit.texts:
            await connection.execute(text)
    for old in [each for each in found if each != unit.hash][KEPT:]:
        for kind in ("open", "commit"):
            await connection.execute(_text("drop", name=_NAME.format(kind, old)))


async def is_installed(connection: Connection, unit: UnitOfWork) -> bool:
    """Whether this release's functions are there."""
    rows = await connection.fetch(load_queries(PACKAGE, "migrations.sql")["functions"])
    return unit.hash in [row["hash"] for row in rows]


def published(records: Sequence[OutboxRecord], answer: asyncpg.Record | None) -> list[OutboxRecord]:
    """The outbox rows of a batch with the ids and times that they were given."""
    if not records or answer is None:
        return []
    ids, times = answer[0], answer[1]
    return [
        msgspec.structs.replace(record, id=number, created_at=at)
        for record, number, at in zip(records, ids, times, strict=True)
    ]


def _writes(tables: Sequence[Table | Facts]) -> Iterator[tuple[str, Table | Facts, bool]]:
    for table in tables:
        if isinstance(table, Facts):
            yield table.append, table, False
            continue
        if table.insert:
            yield table.insert, table, False
        yield table.update, table, table.stepwise


def _table_of(table: Table | Facts) -> str:
    return table.fact_type.TABLE if isinstance(table, Facts) else table.row_type.TABLE


def _placed(sql: str, *places: int) -> str:
    """The statement with the arguments of the function in place of its own."""
    return _PLACEHOLDER.sub(lambda match: f"${places[int(match[1]) - 1]}", sql)


def _types(sql: str, table: Table | Facts) -> list[str]:
    """The types of a statement's parameters, as it casts them. Raises ValueError: one is not cast."""
    found: dict[int, str] = {}
    for number, kind in _TYPED.findall(sql):
        found.setdefault(int(number), kind)
    count = max(map(int, _PLACEHOLDER.findall(sql)), default=0)
    missing = [f"${number}" for number in range(1, count + 1) if number not in found]
    if missing or not count:
        raise ValueError(f"{_table_of(table)}: cast {', '.join(missing) or '$1'} to its array type, as in $1::text[]")
    return [found[number] for number in range(1, count + 1)]


def _text(template: str, **parts: object) -> str:
    return _TEMPLATES[template].format(**parts)
