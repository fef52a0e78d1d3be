"""The payment service alone: orders and rejections come from the log, the bank has a real book."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from orderflow.events.inventory import MissingLine, StockRejected
from orderflow.events.order import Item, OrderCompleted, OrderPlaced
from orderflow.events.payment import PaymentFailed, PaymentRefunded, PaymentSucceeded
from tests.support.postgres import PostgresServer
from tests.support.saga import Databases, Wire, databases, new_order_id, running, wire
from tests.support.waiting import eventually

NEVER = {"gateway_timeout_ms": 600_000, "intent_lease_ms": 1_000, "drain_timeout_s": 1}
ITEMS = (Item(sku="SKU-A", quantity=2, unit_price=1250),)


@pytest.fixture
def made(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, "payment") as fresh:
        yield fresh


@pytest.fixture
async def service(made: Databases, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    await made.migrate()
    async with running("payment", made, tmp_path) as client:
        yield client


@pytest.fixture
async def log(service: httpx2.AsyncClient, made: Databases) -> AsyncIterator[Wire]:
    async with wire(made) as opened:
        yield opened


def placed(order_id: UUID, method: str = "pm_card_visa") -> OrderPlaced:
    return OrderPlaced(
        order_id=order_id,
        customer_id="customer-1",
        currency="EUR",
        items=ITEMS,
        total=2500,
        payment_method=method,
    )


def rejected(order_id: UUID) -> StockRejected:
    missing = (MissingLine(sku="SKU-A", requested=2, available=0),)
    return StockRejected(order_id=order_id, customer_id="customer-1", missing=missing)


def book(postgres: PostgresServer, made: Databases) -> str:
    """Charges, sum of what was taken, refunds, sum of what was given back."""
    asked = (
        "SELECT count(*), coalesce(sum(amount) FILTER (WHERE decline_code IS NULL), 0), "
        "(SELECT count(*) FROM bank_refunds), (SELECT coalesce(sum(amount), 0) FROM bank_refunds) "
        "FROM bank_charges"
    )
    return postgres.execute(asked, made.urls["bank"].rpartition("/")[2])


async def shown(service: httpx2.AsyncClient, order_id: UUID) -> dict[str, Any]:
    answer: dict[str, Any] = (await service.get(f"/payments/{order_id}")).json()
    return answer


async def test_an_order_is_charged_once_however_often_it_is_heard_of(
    service: httpx2.AsyncClient, log: Wire, made: Databases, postgres: PostgresServer
) -> None:
    order_id = new_order_id()
    for sequence in (1, 1, 2):
        await log.say(placed(order_id), "/orderflow/order", sequence)
    event = await log.hear(PaymentSucceeded, order_id)
    assert (event.total, event.items, event.customer_id) == (2500, ITEMS, "customer-1")
    payment = await shown(service, order_id)
    assert (payment["status"], payment["captured"], payment["refunded"]) == ("CAPTURED", 2500, 0)
    assert payment["charge_reference"].startswith("ch_")
    other = new_order_id()
    await log.say(placed(other), "/orderflow/order")
    await log.hear(PaymentSucceeded, other)
    await log.hear(PaymentSucceeded, order_id)
    assert book(postgres, made) == "2|5000|0|0"


async def test_a_decline_is_told_with_its_reason(service: httpx2.AsyncClient, log: Wire) -> None:
    order_id = new_order_id()
    await log.say(placed(order_id, "pm_card_visa_chargeDeclinedStolenCard"), "/orderflow/order")
    assert (await log.hear(PaymentFailed, order_id)).reason == "stolen_card"
    payment = await shown(service, order_id)
    assert (payment["status"], payment["reason"], payment["captured"]) == ("DECLINED", "stolen_card", 0)


async def test_a_rejected_order_is_refunded_once_however_often_it_is_heard_of(
    service: httpx2.AsyncClient, log: Wire, made: Databases, postgres: PostgresServer
) -> None:
    order_id = new_order_id()
    await log.say(placed(order_id), "/orderflow/order")
    await log.hear(PaymentSucceeded, order_id)
    for sequence in (1, 1, 2):
        await log.say(rejected(order_id), "/orderflow/inventory", sequence)
    assert (await log.hear(PaymentRefunded, order_id)).amount == 2500
    assert (await shown(service, order_id))["status"] == "REFUNDED"
    assert book(postgres, made) == "1|2500|1|2500"


async def test_events_that_payment_does_not_act_on_are_passed_over(service: httpx2.AsyncClient, log: Wire) -> None:
    order_id = new_order_id()
    completed = OrderCompleted(order_id=order_id, customer_id="c", currency="EUR", total=1)
    await log.say(completed, "/orderflow/order")
    await log.say(placed(order_id), "/orderflow/order", 2)
    await log.hear(PaymentSucceeded, order_id)
    assert (await service.get(f"/payments/{new_order_id()}")).status_code == 404


async def test_calls_that_hang_do_not_hold_up_the_other_orders(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    slow = [new_order_id() for _ in range(10)]
    quick = [new_order_id() for _ in range(20)]
    async with running("payment", made, tmp_path, **NEVER), wire(made) as log:
        for order_id in slow:
            await log.say(placed(order_id, "pm_timeout_charged"), "/orderflow/order")
        for order_id in quick:
            await log.say(placed(order_id), "/orderflow/order")
        for order_id in quick:
            await log.hear(PaymentSucceeded, order_id)
        still = [each.key for each in await log.heard(PaymentSucceeded)]
        assert not {str(order_id) for order_id in slow} & set(still)


async def test_a_charge_that_was_under_way_when_the_process_ended_is_asked_again_under_its_key(
    made: Databases, postgres: PostgresServer, tmp_path: Path
) -> None:
    await made.migrate()
    order_id = new_order_id()
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
    async with wire(made) as log:
        async with running("payment", made, tmp_path / "first", **NEVER):
            await log.say(placed(order_id, "pm_timeout_charged"), "/orderflow/order")
            await eventually(lambda: book(postgres, made) == "1|2500|0|0")
        async with running("payment", made, tmp_path / "second", intent_lease_ms=1_000) as service:
            await log.hear(PaymentSucceeded, order_id, 30)
            assert (await shown(service, order_id))["status"] == "CAPTURED"
    assert book(postgres, made) == "1|2500|0|0"
