"""The notification service alone: outcomes come from the log."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from orderflow.events.inventory import MissingLine, ReservedLine, StockRejected, StockReserved
from orderflow.events.order import Item
from orderflow.events.payment import PaymentFailed, PaymentRefunded, PaymentSucceeded, PaymentVoided
from tests.support.postgres import PostgresServer
from tests.support.saga import Databases, Wire, databases, new_order_id, running, wire
from tests.support.waiting import eventually


@pytest.fixture
def made(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, "notification") as fresh:
        yield fresh


@pytest.fixture
async def service(made: Databases, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    await made.migrate()
    async with running("notification", made, tmp_path) as client:
        yield client


@pytest.fixture
async def log(service: httpx2.AsyncClient, made: Databases) -> AsyncIterator[Wire]:
    async with wire(made) as opened:
        yield opened


async def told(service: httpx2.AsyncClient, order_id: UUID, *outcomes: str) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await service.get(f"/notifications?order_id={order_id}")).json()[
            "notifications"
        ]
        assert sorted(each["outcome"] for each in found) == sorted(outcomes), found
        return found

    return await eventually(look)


def logged(home: Path, order_id: UUID) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (home / "notification.log").read_text().splitlines()]
    of_order = [line for line in lines if line.get("order_id") == str(order_id)]
    return sorted((line["notified"], line["text"]) for line in of_order if "notified" in line)


async def test_each_outcome_is_told_and_logged_once_however_often_it_is_heard_of(
    service: httpx2.AsyncClient, log: Wire, tmp_path: Path
) -> None:
    completed, declined, refunded = (new_order_id() for _ in range(3))
    missing = (MissingLine(sku="SKU-A", requested=1, available=0),)
    lines = (ReservedLine(sku="SKU-A", quantity=1),)
    for sequence in (1, 1, 2):
        await log.say(
            StockReserved(order_id=completed, customer_id="c", lines=lines), "/orderflow/inventory", sequence
        )
        await log.say(
            PaymentFailed(order_id=declined, customer_id="c", currency="EUR", total=5, reason="lost_card"),
            "/orderflow/payment",
            sequence,
        )
        await log.say(
            StockRejected(order_id=refunded, customer_id="c", missing=missing),
            "/orderflow/inventory",
            sequence,
        )
        await log.say(
            PaymentRefunded(order_id=refunded, customer_id="c", currency="EUR", amount=5),
            "/orderflow/payment",
            sequence,
        )
    await told(service, completed, "completed")
    [failed] = await told(service, declined, "failed")
    assert (failed["reason"], failed["customer_id"]) == ("lost_card", "c")
    both = await told(service, refunded, "failed", "refunded")
    assert len({each["cause"] for each in both}) == 2
    await eventually(lambda: logged(tmp_path, declined) == [("failed", failed["text"])])
    await eventually(lambda: logged(tmp_path, refunded) == sorted((each["outcome"], each["text"]) for each in both))
    latest = (await service.get("/notifications?limit=3")).json()["notifications"]
    newest_first = sorted(map(str, (completed, declined, refunded, refunded)), reverse=True)
    assert [each["order_id"] for each in latest] == newest_first[:3]


async def test_what_is_no_outcome_is_not_told(service: httpx2.AsyncClient, log: Wire) -> None:
    order_id = new_order_id()
    items = (Item(sku="SKU-A", quantity=1, unit_price=5),)
    succeeded = PaymentSucceeded(order_id=order_id, customer_id="c", currency="EUR", items=items, total=5)
    refunded = PaymentRefunded(order_id=order_id, customer_id="c", currency="EUR", amount=5)
    await log.say(succeeded, "/orderflow/payment")
    await log.say(refunded, "/orderflow/payment", 2)
    await told(service, order_id, "refunded")
    assert (await service.get("/notifications?order_id=x")).status_code == 422


async def test_a_customer_is_told_one_end_of_an_order_whatever_is_forged(
    service: httpx2.AsyncClient, log: Wire
) -> None:
    order_id, other = new_order_id(), new_order_id()
    missing = (MissingLine(sku="SKU-A", requested=1, available=0),)
    await log.say(StockRejected(order_id=order_id, customer_id="c", missing=missing), "/orderflow/inventory")
    await told(service, order_id, "failed")
    lines = (ReservedLine(sku="SKU-A", quantity=1),)
    await log.say(StockReserved(order_id=order_id, customer_id="c", lines=lines), "/orderflow/inventory", 2)
    await log.say(StockReserved(order_id=other, customer_id="c", lines=lines), "/orderflow/inventory")
    voided = PaymentVoided(order_id=order_id, customer_id="c", currency="EUR", amount=5)

    async def parked() -> bool:
        letters = (await service.get("/ops/dead-letters", params={"key": str(order_id), "state": "all"})).json()
        return [each["error"] for each in letters["dead_letters"]] == ["DataRefusedError"]

    await eventually(parked)
    await told(service, other, "completed")
    await told(service, order_id, "failed")
    await log.say(voided, "/orderflow/payment", 2)

    async def held() -> bool:
        letters = (await service.get("/ops/dead-letters", params={"key": str(order_id), "state": "held"})).json()
        return len(letters["dead_letters"]) == 1

    await eventually(held)


async def test_that_nothing_was_charged_is_told_beside_the_failure(service: httpx2.AsyncClient, log: Wire) -> None:
    order_id = new_order_id()
    missing = (MissingLine(sku="SKU-A", requested=1, available=0),)
    await log.say(StockRejected(order_id=order_id, customer_id="c", missing=missing), "/orderflow/inventory")
    voided = PaymentVoided(order_id=order_id, customer_id="c", currency="EUR", amount=5)
    await log.say(voided, "/orderflow/payment")
    both = await told(service, order_id, "failed", "not_charged")
    assert any("Nothing was charged" in each["text"] for each in both)
