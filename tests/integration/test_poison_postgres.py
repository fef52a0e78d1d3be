"""Events that the order's model rules out, on a real PostgreSQL: dead at once, however many, and no outage."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from orderflow.core.access import PLATFORM
from orderflow.core.engine import Engine, EngineConfig
from orderflow.core.messages import Event
from orderflow.core.postgres import schema
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import tables_of
from orderflow.core.telemetry import OutageJudged, Signal, Signals
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.timing import SystemClock
from orderflow.core.transport import TopicSettings
from orderflow.events.order import Item
from orderflow.events.payment import PaymentFailed, PaymentSucceeded
from orderflow.services.order.messages import PlaceOrder
from orderflow.services.order.service import SERVICE
from tests.support.postgres import PostgresServer
from tests.support.records import published
from tests.support.saga import new_order_id
from tests.support.waiting import eventually

ITEMS = (Item(sku="SKU-A", quantity=2, unit_price=1250),)
TOPICS = ("order-events", "inventory-status", "payment-status", "flow-status")
DEAD = "SELECT count(*) FROM parked_events WHERE state = 3 AND attempts = 1"


class Shop:
    """One process of the order service."""

    def __init__(self, store: PostgresStore, server: PostgresServer, database: str) -> None:
        log = MemoryLog(SystemClock(), random.Random(1))
        log.create([TopicSettings(name, 3) for name in (*TOPICS, *(f"{name}.DLT" for name in TOPICS))])
        self.transport = MemoryTransport(log)
        self.seen: list[Signal] = []
        self.engine = Engine(
            SERVICE,
            store,
            self.transport,
            gateway=None,
            signals=Signals([self.seen.append]),
            clock=SystemClock(),
            rng=random.Random(2),
            config=EngineConfig(),
        )
        self._server = server
        self._database = database

    async def place(self, count: int) -> list[UUID]:
        ids = [new_order_id() for _ in range(count)]
        for order_id in ids:
            order = PlaceOrder(
                order_id=order_id, customer_id="c", currency="EUR", items=ITEMS, payment_method="pm_card_visa"
            )
            await self.engine.submit(order, PLATFORM)
        return ids

    async def publish(self, events: Sequence[Event], number: int = 1) -> None:
        await self.transport.append([published(event, number) for event in events])

    async def there_are(self, count: int, statement: str) -> None:
        async def found() -> bool:
            said = await asyncio.to_thread(self._server.execute, statement, self._database)
            return said.strip() == str(count)

        await eventually(found, every_s=0.1)

    def judged(self) -> list[Signal]:
        return [signal for signal in self.seen if isinstance(signal, OutageJudged)]


@pytest.fixture
async def shop(postgres: PostgresServer, database_url: str) -> AsyncIterator[Shop]:
    await schema.migrate(database_url, schema.schema_of(SERVICE))
    store = await PostgresStore.connect(database_url, tables=tables_of(SERVICE.tables))
    shop = Shop(store, postgres, urlsplit(database_url).path.removeprefix("/"))
    shop.engine.start()
    yield shop
    await shop.engine.kill()
    await store.close()


def paid(order_id: UUID) -> PaymentSucceeded:
    return PaymentSucceeded(order_id=order_id, customer_id="c", currency="EUR", items=ITEMS, total=2500)


def declined(order_id: UUID) -> PaymentFailed:
    return PaymentFailed(order_id=order_id, customer_id="c", currency="EUR", total=2500, reason="card_declined")


def status(name: str) -> str:
    return f"SELECT count(*) FROM orders WHERE status = '{name}'"


async def test_payments_of_unknown_orders_are_dead_at_once_and_hold_up_no_real_one(shop: Shop) -> None:
    await shop.publish([paid(new_order_id()) for _ in range(60)])
    await shop.there_are(60, DEAD)
    real = await shop.place(12)

    await shop.publish([paid(order_id) for order_id in real])
    await shop.there_are(12, status("PAID"))

    assert shop.judged() == []
    assert shop.engine.health().problems == {}


async def test_payments_forged_for_declined_orders_are_dead_at_once_and_the_service_stays_ready(shop: Shop) -> None:
    ids = await shop.place(30)
    await shop.publish([declined(order_id) for order_id in ids])
    await shop.there_are(30, status("FAILED"))

    await shop.publish([paid(order_id) for order_id in ids])
    await shop.there_are(30, DEAD)

    assert shop.judged() == []
    assert shop.engine.health().problems == {}
    await shop.there_are(30, status("FAILED"))
