"""Which orders are to be looked at one by one: all whose facts, as one table has them, are not those of another.

Each query of `sql/sieve.sql` gives a row a fact: the order's key, and a 64-bit hash for each face that the fact
has. On one face two sides show the same facts of an order when all is well. Each database adds its hashes up where
they are, chunk by chunk of orders (a fact that stands twice counts twice); where the sums of two sides differ,
they are asked for again order by order. So of a million orders in good order some thousands of numbers cross the
wire. What is found here is not told: it is judged (`orders.check_order`), and whatever the judge can find has to
fall through here.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from orderflow.audit.books import Listener
from orderflow.audit.collect import BANK, Databases, Ledgers, publishers
from orderflow.core.postgres.queries import load_queries
from orderflow.registry import SAGA, service_of

CHUNK = 1_000
CHUNKS_MAX = 4_000
AT_ONCE = 20
"""Chunks that are opened in one go."""
FIRST = UUID(int=0)
LAST = UUID(int=2**128 - 1)
BEYOND = "~"
"""Sorts after every key that is an order's id."""

Sums = defaultdict[Any, defaultdict[str, int]]


class Side(NamedTuple):
    """One query of `sieve.sql`: its database, the type of its keys, and the faces that it shows.

    A face of one database alone has its name before a dot; one with a minus is taken away from what the other side
    shows. `given` is what the query takes besides. `since`: from which key on everything has been kept; None: as the
    database's outbox has kept it.
    """

    database: str
    query: str
    type: str
    faces: tuple[str, ...]
    given: tuple[str | list[str] | list[bytes], ...] = ()
    since: UUID | None = None


BUSINESS = (
    Side(
        "order",
        "orders",
        "uuid",
        ("money", "bank", "stock", "told", "steps", "order.said", "added"),
    ),
    Side("order", "history", "uuid", ("-steps", "order.heard")),
    Side("order", "refunds", "uuid", ("order.heard",)),
    Side("payment", "payments", "uuid", ("-money", "payment.heard", "payment.said")),
    Side(BANK, "charges", "uuid", ("-bank",)),
    Side(BANK, "paid_back", "uuid", ("-bank",)),
    Side("inventory", "reservations", "uuid", ("-stock", "moved", "inventory.heard", "inventory.said")),
    Side("inventory", "moves", "uuid", ("-moved",)),
    Side("notification", "told", "uuid", ("-told", "notification.heard")),
    *(Side(name, "inbox", "text", (f"-{name}.heard",), (name,)) for name in SAGA),
)
"""What the saga's services have made of an order, and what they must have heard for it."""


def _sides(databases: Databases, ledgers: Ledgers) -> Iterator[Side]:
    yield from BUSINESS
    for name in databases.services:
        said = (f"-{name}.said",) if name in SAGA else ()
        yield Side(name, "outbox", "bytea", (*said, f"{name}.numbered"))
        yield Side(name, "streams", "text", (f"-{name}.numbered",))
    for number, (listener, since) in enumerate(ledgers.listeners.items()):
        yield from _of_listener(listener, since, f"{listener.service}.{number}.heard")


def _of_listener(listener: Listener, since: UUID | None, face: str) -> Iterator[Side]:
    """What it has heard, against what its publishers have written; without `since` only what waits there."""
    types = sorted(listener.types) if since is not None else []
    yield Side(listener.service, "listened", "text", (f"-{face}",), (listener.consumer, types), since)
    if since is not None:
        names = sorted(service_of(listener.service).catalogue.names)
        wires = [name for name in names if _type(name) in listener.types]
        given = (sorted(listener.topics), [name.encode() for name in wires], [_type(name) for name in wires])
        for publisher in publishers(listener):
            yield Side(publisher, "written", "bytea", (face,), given, since)


def _type(wire: str) -> str:
    """`orderflow.OrderPlaced.v1` → `orderflow.OrderPlaced`."""
    return wire.rpartition(".v")[0]


class Sieve:
    """Within `Databases.snapshots`. `ledgers`: as `collect.ledgers` says."""

    def __init__(self, databases: Databases, ledgers: Ledgers) -> None:
        self._databases = databases
        self._ledgers = ledgers
        self._sides = tuple(_sides(databases, ledgers))
        self._queries = load_queries("orderflow.audit", "sieve.sql")

    async def suspects(self, orders: int, after: UUID | None = None) -> set[str]:
        """The keys of all orders that have to be judged, of about so many that there are, or of those after an id."""
        size = max(CHUNK, orders // CHUNKS_MAX)
        rows = await self._databases.ask("order", "last_ids", size)
        lasts = [row["order_id"] for row in rows]
        sums = await self._sums("sums_by_chunk", lasts, after)
        odd = sorted(place for place, faces in sums.items() if any(faces.values()))
        found = await self._directly()
        for start in range(0, len(odd), AT_ONCE):
            found |= await self._opened(lasts, odd[start : start + AT_ONCE])
        return found

    async def _opened(self, lasts: Sequence[UUID], chunks: Sequence[int]) -> set[str]:
        """`width_bucket` counts the bounds that a key has reached: a bound is the first of the chunk after it."""
        after = lasts[chunks[0] - 1] if chunks[0] else None
        until = lasts[chunks[-1]] if chunks[-1] < len(lasts) else None
        sums = await self._sums("sums_by_key", lasts, after, until, chunks)
        return {key for key, faces in sums.items() if any(faces.values())}

    async def _sums(
        self,
        query: str,
        lasts: Sequence[UUID],
        after: UUID | None = None,
        until: UUID | None = None,
        chunks: Sequence[int] | None = None,
    ) -> Sums:
        by_database: dict[str, list[Side]] = {}
        for side in self._sides:
            by_database.setdefault(side.database, []).append(side)
        sums: Sums = defaultdict(lambda: defaultdict(int))

        async def add(sides: Iterable[Side]) -> None:
            for side in sides:
                _add(sums, side, await self._ask(query, side, lasts, after, until, chunks))

        await asyncio.gather(*(add(sides) for sides in by_database.values()))
        return sums

    async def _ask(
        self,
        query: str,
        side: Side,
        lasts: Sequence[UUID],
        after: UUID | None,
        until: UUID | None,
        chunks: Sequence[int] | None,
    ) -> Sequence[Any]:
        shown = ", ".join(f"sum({name}) AS {name}" for name in map(_column, side.faces))
        statement = self._queries[query].format(
            type=side.type, sums=shown, facts=self._queries[side.query], chunks=5 + len(side.given)
        )
        kept = self._ledgers.outboxes.get(side.database, LAST) if side.since is None else side.since
        begin = FIRST if after is None else UUID(int=after.int - 1)
        bounds = [_as(side.type, bound) for bound in (kept, begin, until or LAST)]
        if side.type != "uuid" and until is None:
            # Keys that are no ids of orders sort anywhere.
            bounds[2] = _as_text(side.type, BEYOND)
        if side.type != "uuid" and after is None:
            bounds[1] = _as_text(side.type, "")
        arguments = [*bounds, [_as(side.type, last) for last in lasts], *side.given]
        return await self._databases.run(side.database, statement, *arguments, *([] if chunks is None else [chunks]))

    async def _directly(self) -> set[str]:
        odd = await self._databases.ask("order", "odd_orders")
        found = {str(row["order_id"]) for row in odd}
        for rows in await asyncio.gather(
            *(self._databases.ask(name, "busy_keys") for name in self._databases.services)
        ):
            found |= {row["key"] for row in rows}
        return found


def _add(sums: Sums, side: Side, rows: Iterable[Any]) -> None:
    for row in rows:
        place = row["place"]
        if isinstance(place, bytes):
            place = place.decode("utf-8", "backslashreplace")
        elif isinstance(place, UUID):
            place = str(place)
        faces = sums[place]
        for face in side.faces:
            value = int(row[_column(face)] or 0)
            faces[face.removeprefix("-")] += -value if face.startswith("-") else value


def _column(face: str) -> str:
    return face.removeprefix("-").rpartition(".")[2]


def _as(kind: str, value: UUID) -> object:
    return value if kind == "uuid" else _as_text(kind, str(value))


def _as_text(kind: str, value: str) -> object:
    return value.encode() if kind == "bytea" else value
