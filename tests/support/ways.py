"""The ways through the code that matter: walked by a real order service on real databases, traced from step to step.

python -m tests.support.ways            every way, as it goes today: for the page and for the bounds
python -m tests.support.ways --json     how many modules each enters, and how often it comes back to one
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2

from orderflow.core.crash_points import Point
from orderflow.events.order import Item
from orderflow.events.payment import PaymentSucceeded
from orderflow.services.order.service import SERVICE as ORDER
from tests.support.bounds import BOUNDS
from tests.support.postgres import PostgresServer
from tests.support.saga import Databases, Wire, databases, running, wire
from tests.support.tracing import Entry, Trace, tracing
from tests.support.waiting import eventually

ROUNDS = 6
"""A timer that happens to fall into one walk does not fall into six; what is entered in each is part of the way."""
SETTINGS: Mapping[str, object] = {"attempts_max": 2, "retry_first_ms": 1}
POISON = "customer-poison"
PAID = "SELECT status = 'PAID' FROM orders WHERE order_id = $1"
UNSENT = "SELECT count(*) FROM outbox_pending"
REFUSE = f"ALTER TABLE orders ADD CONSTRAINT poison CHECK (status <> 'PAID' OR customer_id <> '{POISON}') NOT VALID"
ALLOW = "ALTER TABLE orders DROP CONSTRAINT poison"
Ways = Mapping[str, Sequence[Trace]]
BOUNDED = {"post": ("post",), "record": ("record",), "poison_to_replay": ("poison", "replay")}
"""The ways that a bound is set for, and what each is made of."""


class Walker:
    """Sends one thing after the other through an order service, and traces each."""

    def __init__(self, client: httpx2.AsyncClient, says: Wire, database: asyncpg.Connection[Any]) -> None:
        self._client, self._says, self._database = client, says, database
        self.ways: dict[str, list[Trace]] = {}

    async def walk_well(self) -> UUID:
        """An order that is placed and paid, and one that is placed; returns the latter."""
        async with self._way("post", Point.TX_COMMITTED):
            order = await self._place("ada")
        async with self._way("publish", Point.RELAY_MARKED, Point.TX_COMMITTED):
            unpaid = await self._place(POISON)
        async with self._way("record", Point.OFFSETS_WRITTEN, Point.CONSUMER_POLLED):
            await self._pay(order, "ada")
        return unpaid

    async def walk_ill(self, poison: UUID) -> None:
        """The payment of this order is refused by the database, until that is mended."""
        await self._database.execute(REFUSE)
        async with self._way("poison", Point.EVENT_DEAD, Point.CONSUMER_POLLED):
            await self._pay(poison, POISON)
        await self._database.execute(ALLOW)
        async with self._way("replay", Point.REPLAY_ENDING):
            await self._replay(poison)
            await eventually(lambda: self._database.fetchval(PAID, poison))

    @asynccontextmanager
    async def _way(self, name: str, last: Point, first: Point | None = None) -> AsyncIterator[None]:
        with tracing(last, first) as trace:
            yield
            await eventually(lambda: trace.done)
        self.ways.setdefault(name, []).append(trace)
        await eventually(self._is_quiet)

    async def _is_quiet(self) -> bool:
        """Whether nothing is left of this way that could be taken for the next one."""
        return not await self._database.fetchval(UNSENT) and not await self._says.unread(ORDER)

    async def _place(self, customer: str) -> UUID:
        line = {"sku": "TEA", "quantity": 1, "unit_price": 590}
        order = {"customer_id": customer, "currency": "EUR", "payment_method": "pm_card_visa", "items": [line]}
        answer = (await self._client.post("/orders", json=order)).raise_for_status()
        return UUID(answer.json()["id"])

    async def _pay(self, order: UUID, customer: str) -> None:
        items = (Item(sku="TEA", quantity=1, unit_price=590),)
        paid = PaymentSucceeded(order_id=order, customer_id=customer, currency="EUR", items=items, total=590)
        await self._says.say(paid, "/orderflow/payment")

    async def _replay(self, order: UUID) -> None:
        asked = {"filter": {"key": str(order)}, "confirmed": True}
        answer = await self._client.post("/ops/replays", json=asked, headers={"x-orderflow-operator": "ada"})
        answer.raise_for_status()


async def walk(made: Databases, home: Path) -> Ways:
    """Every way, `ROUNDS` times. `made` are fresh databases of an order service."""
    await made.migrate()
    async with running("order", made, home, **SETTINGS) as client, wire(made) as says:
        database = await asyncpg.connect(made.urls["order"])
        try:
            walker = Walker(client, says, database)
            # What fails is told on a topic that the order service reads too: that would be in the way of the others.
            for poison in [await walker.walk_well() for _ in range(ROUNDS)]:
                await walker.walk_ill(poison)
        finally:
            await database.close()
    return walker.ways


def entered(traces: Sequence[Trace]) -> Sequence[Entry]:
    """The functions that every walk has entered, in the order of the walk in which least else happened."""
    common = set.intersection(*(set(each.entries) for each in traces))
    return [each for each in min((each.entries for each in traces), key=len) if each in common]


def modules(traces: Sequence[Trace]) -> Sequence[str]:
    """Their modules, without the vocabulary. A module counts when every walk has entered it, by whatever function."""
    common = frozenset.intersection(*(each.files for each in traces))
    files = dict.fromkeys(each.file for each in min((each.entries for each in traces), key=len))
    return [file for file in files if file in common and not is_vocabulary(file)]


def entered_again(traces: Sequence[Trace]) -> int:
    """How often a reader who follows the functions in order comes back to a module that he has left."""
    files = [each.file for each in entered(traces) if not is_vocabulary(each.file)]
    first = dict.fromkeys(files)
    return sum(file != before for before, file in pairwise(files)) + 1 - len(first)


def counted(ways: Ways) -> Mapping[str, Mapping[str, int]]:
    """Of each way that is bounded: how many modules it enters, and how often it comes back to one."""
    return {
        way: {
            "most": len({file for part in parts for file in modules(ways[part])}),
            "again": sum(entered_again(ways[part]) for part in parts),
        }
        for way, parts in BOUNDED.items()
    }


def is_vocabulary(file: str) -> bool:
    """Whether the module only declares what others speak of: types, values, ports."""
    return any(fnmatch(file, pattern) for pattern in BOUNDS["modules"]["vocabulary"])


def main() -> None:
    server = PostgresServer()
    try:
        server.start()
        with databases(server, "order") as made, tempfile.TemporaryDirectory() as home:
            ways = asyncio.run(walk(made, Path(home)))
    finally:
        server.remove()
    if "--json" in sys.argv[1:]:
        sys.stdout.write(json.dumps(counted(ways)))
        return
    for name, traces in ways.items():
        again = entered_again(traces)
        sys.stdout.write(f"\n{name}: {len(modules(traces))} modules, entered again {again} times\n")
        for file, function in entered(traces):
            sys.stdout.write(f"{' ' if is_vocabulary(file) else '*'} {file} {function}\n")


if __name__ == "__main__":
    main()
