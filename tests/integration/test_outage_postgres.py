"""An outage of one event type on a real PostgreSQL: nothing is written for it, and all of it heals in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from orderflow.core.engine import Engine, EngineConfig
from orderflow.core.messages import Envelope, Event
from orderflow.core.postgres import schema
from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import tables_of
from orderflow.core.service import Decision, Handler, Rows
from orderflow.core.telemetry import Signals
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.timing import SystemClock
from orderflow.core.transport import TopicSettings
from orderflow.events.inventory import MissingLine, StockRejected
from orderflow.events.order import Item, OrderPlaced
from orderflow.services.payment.service import SERVICE
from tests.support.postgres import PostgresServer
from tests.support.records import published
from tests.support.saga import new_order_id
from tests.support.waiting import eventually

COUNT = 120
ITEMS = (Item(sku="SKU-A", quantity=2, unit_price=1250),)
OLDER = [new_order_id() for _ in range(COUNT)]
NEWER = [new_order_id() for _ in range(COUNT)]


class Release:
    """The payment service; while it is not `mended`, no refusal of stock can be handled. Then it is taken note of."""

    def __init__(self) -> None:
        self.mended = False
        touches = SERVICE.handlers[StockRejected].touches
        self.service = replace(SERVICE, handlers={**SERVICE.handlers, StockRejected: Handler(touches, self._decide)})

    def _decide(self, rows: Rows, envelope: Envelope) -> Decision:
        if not self.mended:
            raise ZeroDivisionError("a defect of this release")
        return Decision()


class Shop:
    """One process of that release."""

    def __init__(self, store: PostgresStore, server: PostgresServer, database: str) -> None:
        self.release = Release()
        log = MemoryLog(SystemClock(), random.Random(1))
        topics = ("order-events", "inventory-status", "payment-status", "flow-status")
        log.create([TopicSettings(name, 3) for name in (*topics, *(f"{name}.DLT" for name in topics))])
        self.transport = MemoryTransport(log)
        self.engine = Engine(
            self.release.service,
            store,
            self.transport,
            gateway=None,
            signals=Signals(),
            clock=SystemClock(),
            rng=random.Random(2),
            config=EngineConfig(infrastructure_ceiling_ms=200),
        )
        self._server = server
        self._database = database

    async def publish(self, *events: Event) -> None:
        await self.transport.append([published(event) for event in events])

    def asked(self, statement: str) -> str:
        return self._server.execute(statement, self._database).strip()

    async def rows(self, statement: str, expected: int) -> bool:
        return await asyncio.to_thread(self.asked, statement) == str(expected)


@pytest.fixture
async def shop(postgres: PostgresServer, database_url: str) -> AsyncIterator[Shop]:
    await schema.migrate(database_url, schema.schema_of(SERVICE))
    store = await PostgresStore.connect(database_url, tables=tables_of(SERVICE.tables))
    shop = Shop(store, postgres, urlsplit(database_url).path.removeprefix("/"))
    shop.engine.start()
    yield shop
    await shop.engine.kill()
    await store.close()


def placed(order_id: UUID) -> OrderPlaced:
    return OrderPlaced(
        order_id=order_id, customer_id="c", currency="EUR", items=ITEMS, total=2500, payment_method="pm_card_visa"
    )


def rejected(order_id: UUID) -> StockRejected:
    missing = (MissingLine(sku="SKU-A", requested=2, available=0),)
    return StockRejected(order_id=order_id, customer_id="c", missing=missing)


PAYMENTS = "SELECT count(*) FROM payments"
DONE = "SELECT count(*) FROM processed_events WHERE state = 1"
PARKED = "SELECT count(*) FROM parked_events"


@pytest.mark.parametrize("in_hand", [2_000, 40])
async def test_one_type_in_outage_stops_no_other_and_heals(
    shop: Shop, in_hand: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orderflow.core.consumer.RECORDS_MAX", in_hand)
    monkeypatch.setattr("orderflow.core.consumer.PROBES_KEPT", 5)
    await shop.publish(*map(placed, OLDER))
    await eventually(lambda: shop.rows(PAYMENTS, COUNT), every_s=0.1)

    await shop.publish(*map(rejected, OLDER))
    await eventually(lambda: "ZeroDivisionError" in str(shop.engine.health().problems), every_s=0.1)
    await shop.publish(*map(placed, NEWER))
    await eventually(lambda: shop.rows(PAYMENTS, 2 * COUNT), every_s=0.1)

    assert shop.asked(f"{PARKED} WHERE attempts > 0") == "0"
    assert (shop.asked(PARKED) == "0") == (in_hand > COUNT)
    shop.release.mended = True
    await eventually(lambda: shop.rows(DONE, 3 * COUNT), every_s=0.1)
    await eventually(lambda: shop.rows(PARKED, 0), every_s=0.1)
    await eventually(lambda: not shop.engine.health().problems)
