"""The floor: the whole saga as hand-written set-based SQL in one process, no HTTP, no log, no second try.

It writes the same durable rows as Orderflow (the same tables, made by the same migrations), reads each outbox back
as a relay does, encodes and decodes each event as JSON, and passes batches of 500 from stage to stage in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from benchmarks.samples import sample_id
from orderflow.core.messages import Event
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.sessions import Connection
from orderflow.events.inventory import ReservedLine, StockReserved
from orderflow.events.order import Item, OrderCompleted, OrderPlaced
from orderflow.events.payment import PaymentSucceeded

BATCH = 500
SKU = "FLOOR"
HEADERS = b"h" * 420
"""As long as the headers of a real event: they are part of what is written."""

ENDED_SLOT = 1
"""Ended orders are relayed apart from placed ones: the two stages share the order service's outbox."""


class Stage(NamedTuple):
    """A service's database and the queries over it."""

    connection: Connection
    sql: Mapping[str, str]

    async def receive(self, events: Sequence[Event], consumer: str, identity: str) -> None:
        keys = [event.key for event in events]
        ids = [sample_id() for _ in events]
        await self.connection.execute(self.sql["receive"], keys, ids, consumer, identity)

    async def publish(self, events: Sequence[Event], source: str, sequence: int, slot: int = 0) -> None:
        await self.connection.execute(
            self.sql["publish"],
            [event.key for event in events],
            source,
            sequence,
            events[0].TOPIC,
            [msgspec.json.encode(event) for event in events],
            [HEADERS] * len(events),
            [sample_id() for _ in events],
            slot,
        )

    async def relay(self, kind: type[Event], slot: int = 0) -> list[Event]:
        """Read back what was published, decode it, mark it sent."""
        rows = await self.connection.fetch(self.sql["unsent"], BATCH, slot)
        decoder = msgspec.json.Decoder(kind)
        events = [decoder.decode(row["value"]) for row in rows]
        await self.connection.execute(self.sql["mark_sent"], [row["id"] for row in rows])
        return list(events)


async def run_floor(urls: Mapping[str, str], orders: int) -> float:
    """Carry `orders` orders to COMPLETED; returns the seconds it took. Checks that all of them arrived."""
    sql = load_queries("benchmarks", "floor.sql")
    stages = {name: Stage(await asyncpg.connect(url), sql) for name, url in urls.items()}
    stages["order_end"] = Stage(await asyncpg.connect(urls["order"]), sql)
    try:
        await stages["inventory"].connection.execute(sql["add_stock"], SKU)
        started = time.perf_counter()
        await _pipeline(stages, orders)
        took = time.perf_counter() - started
        completed = await stages["order"].connection.fetchval(sql["count_completed"])
        if completed != orders:
            raise RuntimeError(f"the floor completed {completed} of {orders} orders")
    finally:
        for stage in stages.values():
            await stage.connection.close()
    return took


async def run_reserve_floor(urls: Mapping[str, str], events: int) -> float:
    """The floor of durable consume: the inventory's part alone, from events in memory; returns the seconds."""
    inventory = Stage(await asyncpg.connect(urls["inventory"]), load_queries("benchmarks", "floor.sql"))
    paid, reserved = asyncio.Queue[list[Event]](), asyncio.Queue[list[Event]]()
    item = Item(sku=SKU, quantity=1, unit_price=1250)
    for _ in range(0, events, BATCH):
        batch = [
            PaymentSucceeded(order_id=sample_id(), customer_id="ada", currency="EUR", items=(item,), total=1250)
            for _ in range(BATCH)
        ]
        paid.put_nowait(list(batch))
    try:
        await inventory.connection.execute(inventory.sql["add_stock"], SKU)
        started = time.perf_counter()
        await _reserve(inventory, events, paid, reserved)
        return time.perf_counter() - started
    finally:
        await inventory.connection.close()


async def run_accept_floor(urls: Mapping[str, str], orders: int, waiting: int) -> float:
    """The floor of an accepted POST: the same rows, as many orders in a transaction as clients wait; the seconds."""
    order = Stage(await asyncpg.connect(urls["order"]), load_queries("benchmarks", "floor.sql"))
    try:
        started = time.perf_counter()
        for first in range(0, orders, waiting):
            await _accept(order, min(waiting, orders - first))
        return time.perf_counter() - started
    finally:
        await order.connection.close()


async def _pipeline(stages: Mapping[str, Stage], orders: int) -> None:
    """All stages at the same time, each on its own connection, joined by queues."""
    placed, paid, reserved = (asyncio.Queue[list[Event]](4) for _ in range(3))
    async with asyncio.TaskGroup() as group:
        group.create_task(_place(stages["order"], orders, placed))
        group.create_task(_pay(stages["payment"], stages["bank"], orders, placed, paid))
        group.create_task(_reserve(stages["inventory"], orders, paid, reserved))
        group.create_task(_end(stages["order_end"], stages["notification"], orders, reserved))


async def _place(order: Stage, orders: int, placed: asyncio.Queue[list[Event]]) -> None:
    for first in range(0, orders, BATCH):
        await _accept(order, min(BATCH, orders - first))
        await placed.put(await order.relay(OrderPlaced))


async def _accept(order: Stage, count: int) -> None:
    """So many new orders and their events, in one transaction."""
    item = Item(sku=SKU, quantity=1, unit_price=1250)
    ids = [sample_id() for _ in range(count)]
    events = [
        OrderPlaced(
            order_id=each,
            customer_id="ada",
            currency="EUR",
            items=(item,),
            total=1250,
            payment_method="pm_card_visa",
        )
        for each in ids
    ]
    items = [msgspec.json.encode(event.items).decode() for event in events]
    async with order.connection.transaction():
        await order.connection.execute(order.sql["place_orders"], ids, items, [1250] * len(ids))
        await order.publish(events, "/orderflow/order", 1)


async def _pay(
    payment: Stage, bank: Stage, orders: int, placed: asyncio.Queue[list[Event]], paid: asyncio.Queue[list[Event]]
) -> None:
    done = 0
    while done < orders:
        events = [event for event in await placed.get() if isinstance(event, OrderPlaced)]
        ids, totals = [event.order_id for event in events], [event.total for event in events]
        items = [msgspec.json.encode(event.items).decode() for event in events]
        async with payment.connection.transaction():
            await payment.receive(events, "payment", OrderPlaced.TYPE)
            await payment.connection.execute(payment.sql["open_payments"], ids, items, totals)
        await bank.connection.execute(bank.sql["charge"], ids, totals)
        answers = [
            PaymentSucceeded(
                order_id=event.order_id,
                customer_id=event.customer_id,
                currency=event.currency,
                items=event.items,
                total=event.total,
            )
            for event in events
        ]
        async with payment.connection.transaction():
            await payment.receive(events, "payment", "answer")
            await payment.connection.execute(payment.sql["capture_payments"], ids)
            await payment.publish(answers, "/orderflow/payment", 1)
        await paid.put(await payment.relay(PaymentSucceeded))
        done += len(events)


async def _reserve(
    inventory: Stage, orders: int, paid: asyncio.Queue[list[Event]], reserved: asyncio.Queue[list[Event]]
) -> None:
    done = 0
    while done < orders:
        events = [event for event in await paid.get() if isinstance(event, PaymentSucceeded)]
        line = ReservedLine(sku=SKU, quantity=1)
        answers = [
            StockReserved(order_id=event.order_id, customer_id=event.customer_id, lines=(line,)) for event in events
        ]
        lines = [msgspec.json.encode(answer.lines).decode() for answer in answers]
        ids = [event.order_id for event in events]
        async with inventory.connection.transaction():
            await inventory.receive(events, "inventory", PaymentSucceeded.TYPE)
            version = await inventory.connection.fetchval(inventory.sql["lock_stock"], SKU)
            await inventory.connection.execute(inventory.sql["take_stock"], SKU, len(ids))
            await inventory.connection.execute(inventory.sql["reserve"], ids, lines, SKU, version)
            await inventory.publish(answers, "/orderflow/inventory", 1)
        await reserved.put(await inventory.relay(StockReserved))
        done += len(events)


async def _end(order: Stage, notification: Stage, orders: int, reserved: asyncio.Queue[list[Event]]) -> None:
    done = 0
    while done < orders:
        events = [event for event in await reserved.get() if isinstance(event, StockReserved)]
        ids = [event.order_id for event in events]
        await asyncio.gather(_complete(order, events, ids), _notify(notification, events, ids))
        done += len(events)


async def _complete(order: Stage, events: Sequence[StockReserved], ids: Sequence[UUID]) -> None:
    async with order.connection.transaction():
        await order.receive(events, "order", PaymentSucceeded.TYPE)
        await order.connection.execute(
            order.sql["advance_orders"], ids, "PAID", "PENDING", PaymentSucceeded.TYPE.partition(".")[2]
        )
    ended = [
        OrderCompleted(order_id=event.order_id, customer_id=event.customer_id, currency="EUR", total=1250)
        for event in events
    ]
    async with order.connection.transaction():
        await order.receive(events, "order", StockReserved.TYPE)
        await order.connection.execute(
            order.sql["advance_orders"], ids, "COMPLETED", "PAID", StockReserved.TYPE.partition(".")[2]
        )
        await order.publish(ended, "/orderflow/order", 2, ENDED_SLOT)
    await order.relay(OrderCompleted, ENDED_SLOT)


async def _notify(notification: Stage, events: Sequence[StockReserved], ids: Sequence[UUID]) -> None:
    async with notification.connection.transaction():
        await notification.receive(events, "notification", StockReserved.TYPE)
        await notification.connection.execute(notification.sql["notify"], ids)
