"""The two SQL functions of a service's units of work: generated from its tables, and installed by migrations."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.recovery import PARKED
from orderflow.core.postgres.sessions import IDLE_IN_TRANSACTION_TIMEOUT_MS, Connection
from orderflow.core.postgres.tables import Facts, Table, field_types
from orderflow.core.service import Row

PACKAGE = "orderflow.core.postgres"
ARGUMENTS_MAX = 100
"""PostgreSQL's limit (FUNC_MAX_ARGS). Tables beyond it are written by separate statements."""

UNSENT_BEFORE_MAX = 100
"""A commit reports at most this many earlier unsent rows; if there are more, the relay reads the outbox."""

KEPT = 2
"""How many other releases keep their functions: processes of the previous one may still run."""

INBOX = ("text[]", "text[]", "uuid[]", "smallint[]")
STREAMS = ("text[]", "text[]", "bigint[]")
OUTBOX = ("smallint[]", "text[]", "bytea[]", "bytea[]", "bytea[]", "uuid[]")
INTENTS = ("text[]", "text[]", "text[]", "text[]", "uuid[]", "text[]", "integer[]", "bigint[]")

LITERALS = ("text[]", "bigint[]", "integer[]", "smallint[]", "boolean[]")
"""Array types that are passed as text, and cast by PostgreSQL. The driver checks each element, in Python, for being
an array itself, which costs ten times as much as the cast. UUIDs and bytes are more expensive as text.

The function casts the text where it uses it. A cast in the call would be prepared for every argument of every call,
although most arguments of a call are null.
"""

_PLACEHOLDER = re.compile(r"\$(\d+)")
_TYPED = re.compile(r"\$(\d+)::([a-z ]+\[\])")
_USED = re.compile(r"\$(\d+)(?:::[a-z ]+\[\])?")
_NAME = "orderflow_{}_{}"
_TEMPLATES = load_queries(PACKAGE, "functions.sql")


@dataclass(frozen=True, slots=True)
class Span:
    """The arguments of one statement among those of the function: their first index and number.

    With `stepwise` the sizes of its waves follow.
    """

    first: int
    width: int
    stepwise: bool


class Functions:
    """The functions that open and commit a service's units of work.

    `open` and `commit` are the calls, `opened_by` and `committed_by` the types of their arguments; `at_once` is one
    call of both. `places` locates the arguments of each statement in `commit`; a statement without a place does not
    fit into it. In the result of `open`, the columns of a row type begin at `loaded_at`, those of parked events at
    `parked_at`.
    """

    def __init__(self, tables: Sequence[Table | Facts]) -> None:
        self._queries = load_queries(PACKAGE)
        self._loads = [table for table in tables if isinstance(table, Table)]
        self._is_full = False
        self.places: dict[str, Span] = {}
        opening, committing = self._opening(), self._committing(tables)
        drafted = opening.text("open") + committing.text("commit")
        self.hash = hashlib.sha256(drafted.encode()).hexdigest()[:12]
        self.names = (_NAME.format("open", self.hash), _NAME.format("commit", self.hash))
        self.texts = (opening.text(self.names[0]), committing.text(self.names[1]))
        self.opened_by, self.committed_by = opening.given, committing.given
        self.open = _text("call", name=self.names[0], given=opening.arguments())
        self.commit = _text("call", name=self.names[1], given=committing.arguments())
        self.at_once = _text(
            "at_once",
            open=self.names[0],
            opened=opening.arguments(),
            commit=self.names[1],
            committed=committing.arguments(after=len(self.opened_by)),
            nothing=" AND ".join(f"found.{name} IS NULL" for name, _ in opening.returned if name.endswith("_0")),
        )
        returned = [name for name, _ in opening.returned]
        self.loaded_at: dict[type[Row], int] = {
            table.row_type: returned.index(f"load{place}_0") for place, table in enumerate(self._loads)
        }
        self.parked_at = returned.index("parked_0")

    def _opening(self) -> _Draft:
        draft, queries = _Draft(), self._queries
        consumer, locks, keys, identities, batch, depth_max = draft.take(
            "text", "bigint[]", "text[]", "text[]", "text[]", "integer"
        )
        waiting, waiting_max, due, longest = draft.take("text[]", "integer", "boolean", "bigint")
        draft.do(locks, _text("take_locks", locks=draft.value(locks), timeout_ms=IDLE_IN_TRANSACTION_TIMEOUT_MS))
        known = draft.placed(queries["known"], consumer, keys, identities)
        draft.read(keys, "known", ("text", "text", "smallint"), known)
        draft.read(batch, "streams", ("text", "text", "bigint"), draft.placed(queries["streams"], batch))
        depths = draft.placed(queries["depths"], consumer, batch, depth_max)
        draft.read(batch, "depths", ("text", "bigint"), depths)
        parked = draft.placed(queries["waiting"], consumer, waiting, waiting_max, due, longest)
        draft.read(waiting, "parked", tuple(PARKED.values()), parked)
        for place, table in enumerate(self._loads):
            (ids,) = draft.take(_types(table.load, table)[0])
            draft.read(ids, f"load{place}", field_types(table.row_type), draft.placed(table.load, ids))
        return draft

    def _committing(self, tables: Sequence[Table | Facts]) -> _Draft:
        draft, queries = _Draft(), self._queries
        consumer, locks = draft.take("text", "bigint[]")
        fresh, known = draft.take(*INBOX), draft.take(*INBOX)
        begun, continued = draft.take(*STREAMS), draft.take(*STREAMS)
        outbox, closed = draft.take(*OUTBOX), draft.take("text[]")
        opened, postponed = draft.take(*INTENTS), draft.take(*INTENTS)
        draft.do(locks, _text("keep_locks", locks=draft.value(locks)))
        for sql, table, stepwise in _writes(tables):
            self._write(draft, sql, table, stepwise=stepwise)
        draft.write("processed_events", fresh[0], draft.placed(queries["add_inbox"], consumer, *fresh), counted=False)
        draft.write("processed_events", known[0], draft.placed(queries["replace_inbox"], consumer, *known))
        draft.write("streams", begun[0], draft.placed(queries["begin_streams"], *begun), counted=False)
        draft.write("streams", continued[0], draft.placed(queries["continue_streams"], *continued))
        ids, times = draft.give("outbox", "bigint[]", "bigint[]")
        draft.do(outbox[0], f"{draft.placed(queries['add_outbox'], *outbox)} INTO {ids}, {times}")
        (before,) = draft.give("before", "bigint[]")
        slots = draft.value(outbox[0])
        look = _text("unsent_before", before=before, slots=slots, ids=ids, limit=UNSENT_BEFORE_MAX + 1)
        draft.do(outbox[0], look.rstrip(";"))
        draft.write("intents", closed[0], draft.placed(queries["close_intents"], *closed), counted=False)
        draft.write("intents", opened[0], draft.placed(queries["open_intents"], *opened), counted=False)
        draft.write("intents", postponed[0], draft.placed(queries["postpone_intents"], *postponed), counted=False)
        return draft

    def _write(self, draft: _Draft, sql: str, table: Table | Facts, *, stepwise: bool) -> None:
        """Add a statement of a table; with `stepwise` it runs once for each wave of row versions."""
        types = _types(sql, table)
        self._is_full = self._is_full or len(draft.given) + len(types) + stepwise > ARGUMENTS_MAX
        if self._is_full:
            return
        # Each wave takes a slice: as arrays they are parsed once, not for every wave.
        places = draft.take(*types, as_arrays=stepwise)
        self.places[sql] = Span(places[0] - 1, len(places), stepwise)
        name = _table_of(table)
        if not stepwise:
            draft.write(name, places[0], draft.placed(sql, *places))
            return
        (sizes,) = draft.take("integer[]")
        wave = _PLACEHOLDER.sub(lambda match: f"${places[int(match[1]) - 1]}[v_from:v_to]", sql)
        check = _text("check", table=name, wanted="v_size")
        draft.do(sizes, _text("waves", sizes=draft.value(sizes), statement=wave, check=check))


async def install(connection: Connection, functions: Functions) -> None:
    """Create this release's functions if they are missing, and drop those of old releases.

    Call it in a transaction that holds the lock of migrations.
    """
    queries = load_queries(PACKAGE, "migrations.sql")
    found = [row["hash"] for row in await connection.fetch(queries["functions"])]
    if functions.hash not in found:
        for text in functions.texts:
            await connection.execute(text)
    for old in [each for each in found if each != functions.hash][KEPT:]:
        for kind in ("open", "commit"):
            await connection.execute(_text("drop", name=_NAME.format(kind, old)))


async def is_installed(connection: Connection, functions: Functions) -> bool:
    """Whether this release's functions exist."""
    rows = await connection.fetch(load_queries(PACKAGE, "migrations.sql")["functions"])
    return functions.hash in [row["hash"] for row in rows]


class _Draft:
    """A function while it is generated: its arguments, its results and its body."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.returned: list[tuple[str, str]] = []
        self.body: list[str] = []
        self._declared: list[str] = []

    def take(self, *types: str, as_arrays: bool = False) -> list[int]:
        """Add arguments of these types; returns their numbers. LITERALS are declared as text, unless `as_arrays`."""
        first = len(self.given) + 1
        self.given += types
        self._declared += types if as_arrays else ("text" if each in LITERALS else each for each in types)
        return list(range(first, first + len(types)))

    def value(self, number: int) -> str:
        """The argument as an expression of its type."""
        kind, declared = self.given[number - 1], self._declared[number - 1]
        return f"${number}" if kind == declared else f"${number}::{kind}"

    def placed(self, sql: str, *places: int) -> str:
        """The statement with its parameters replaced by these arguments."""
        return _USED.sub(lambda match: self.value(places[int(match[1]) - 1]), sql)

    def arguments(self, after: int = 0) -> str:
        """The arguments of a call, numbered from `after` + 1."""
        both = zip(self.given, self._declared, strict=True)
        casts = (f"::text::{kind}" if kind in LITERALS and kind == declared else "" for kind, declared in both)
        return ", ".join(f"${number}{cast}" for number, cast in enumerate(casts, after + 1))

    def give(self, name: str, *types: str) -> list[str]:
        """Add results of these types; returns their names."""
        names = [f"{name}_{number}" for number in range(len(types))]
        self.returned += zip(names, types, strict=True)
        return names

    def do(self, guard: int, *statements: str) -> None:
        """Add statements that run if the argument `guard` is not null."""
        body = "\n".join(f"{each}\n;" for each in statements)
        self.body.append(_text("if_given", guard=guard, statements=body))

    def read(self, guard: int, name: str, types: Sequence[str], query: str) -> None:
        """Add a query, whose columns are returned as arrays."""
        columns = [f"c{number}" for number in range(len(types))]
        names = ", ".join(self.give(name, *(f"{each}[]" for each in types)))
        arrays = ", ".join(f"array_agg(q.{c}::{each})" for c, each in zip(columns, types, strict=True))
        self.do(guard, _text("read", arrays=arrays, names=names, query=query, columns=", ".join(columns)))

    def write(self, table: str, guard: int, statement: str, *, counted: bool = True) -> None:
        """Add a statement; with `counted` it must touch one row for each element."""
        check = [_text("check", table=table, wanted=f"cardinality({self.value(guard)})")] if counted else []
        self.do(guard, statement, *check)

    def text(self, name: str) -> str:
        given = [*self._declared, *(f"OUT {each} {kind}" for each, kind in self.returned)]
        body = "\n".join(f"{each}\n;" for each in self.body)
        return _text("create", name=name, given=", ".join(given), body=body)


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
