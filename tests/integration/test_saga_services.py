"""All four services in one event loop: an order goes all the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, Databases, databases, running
from tests.support.waiting import eventually

Saga = dict[str, httpx2.AsyncClient]


@pytest.fixture
def everything(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, *SERVICES) as made:
        yield made


@pytest.fixture
async def saga(everything: Databases, tmp_path: Path) -> AsyncIterator[Saga]:
    await everything.migrate()
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(running(name, everything, tmp_path)) for name in SERVICES}


def an_order(method: str, sku: str = "SKU-ESPRESSO-CUP", quantity: int = 2) -> dict[str, object]:
    return {
        "customer_id": "customer-1",
        "currency": "EUR",
        "items": [{"sku": sku, "quantity": quantity, "unit_price": 1250}],
        "payment_method": method,
    }


async def end_of(saga: Saga, order: dict[str, object]) -> dict[str, Any]:
    placed = await saga["order"].post("/orders", json=order)
    assert placed.status_code == 201, placed.text
    shown = await saga["order"].get(placed.headers["location"], params={"wait": 30})
    ended: dict[str, Any] = shown.json()
    return ended


async def told(saga: Saga, order_id: object, outcomes: list[str]) -> list[dict[str, str]]:
    """The notifications of an order, once these outcomes are there."""

    async def look() -> list[dict[str, str]]:
        answer = await saga["notification"].get("/notifications", params={"order_id": str(order_id)})
        found: list[dict[str, str]] = answer.json()["notifications"]
        assert sorted(each["outcome"] for each in found) == sorted(outcomes), found
        return found

    return await eventually(look)


async def test_an_order_is_paid_reserved_and_told_to_the_customer(saga: Saga) -> None:
    ended = await end_of(saga, an_order("pm_card_visa"))
    assert (ended["status"], ended["refund"], ended["total"]) == ("COMPLETED", "none", 2500)
    steps = ended["history"]
    assert [each["status"] for each in steps] == ["PENDING", "PAID", "COMPLETED"]
    assert [each["event"] for each in steps] == ["OrderPlaced", "PaymentSucceeded", "StockReserved"]
    assert len({each["cause"] for each in steps}) == 3
    payment = (await saga["payment"].get(f"/payments/{ended['id']}")).json()
    assert (payment["status"], payment["captured"], payment["refunded"]) == ("CAPTURED", 2500, 0)
    stock = (await saga["inventory"].get("/stock/SKU-ESPRESSO-CUP")).json()
    assert (stock["on_hand"], stock["reserved"]) == (999_998, 2)
    await told(saga, ended["id"], ["completed"])


async def test_a_declined_order_fails_for_the_banks_reason(saga: Saga) -> None:
    ended = await end_of(saga, an_order("pm_card_chargeDeclinedInsufficientFunds"))
    assert (ended["status"], ended["reason"], ended["refund"]) == ("FAILED", "insufficient_funds", "none")
    [note] = await told(saga, ended["id"], ["failed"])
    assert note["reason"] == "insufficient_funds"
    assert "25.00 EUR" in note["text"]


async def test_an_order_out_of_stock_fails_and_is_refunded(saga: Saga) -> None:
    ended = await end_of(saga, an_order("pm_card_visa", sku="SKU-SOLD-OUT"))
    assert (ended["status"], ended["reason"]) == ("FAILED", "out_of_stock")
    await told(saga, ended["id"], ["failed", "refunded"])
    payment = (await saga["payment"].get(f"/payments/{ended['id']}")).json()
    assert (payment["status"], payment["captured"], payment["refunded"]) == ("REFUNDED", 2500, 2500)

    async def refunded() -> bool:
        shown = await saga["order"].get(f"/orders/{ended['id']}")
        return bool(shown.json()["refund"] == "done")

    await eventually(refunded)


@pytest.mark.parametrize("method", ["pm_timeout_charged", "pm_timeout_not_charged", "pm_fails_twice", "pm_slow"])
async def test_a_bank_that_misbehaves_charges_once(
    saga: Saga, everything: Databases, postgres: PostgresServer, method: str
) -> None:
    ended = await end_of(saga, an_order(method))
    assert ended["status"] == "COMPLETED"
    name = everything.urls["bank"].rpartition("/")[2]
    charged = "SELECT count(*), sum(amount) FROM bank_charges WHERE decline_code IS NULL"
    assert postgres.execute(charged, name) == "1|2500"


async def test_many_orders_end_and_the_stock_adds_up(saga: Saga) -> None:
    mix = ["pm_card_visa", "pm_card_mastercard", "pm_card_chargeDeclined", "pm_card_amex"]
    orders = [an_order(mix[number % 4], quantity=1 + number % 3) for number in range(120)]
    ended = await asyncio.gather(*(end_of(saga, order) for order in orders))
    assert sum(each["status"] == "FAILED" for each in ended) == 30
    reserved = sum(each["items"][0]["quantity"] for each in ended if each["status"] == "COMPLETED")
    stock = (await saga["inventory"].get("/stock/SKU-ESPRESSO-CUP")).json()
    assert (stock["reserved"], stock["on_hand"] + stock["reserved"]) == (reserved, 1_000_000)
    assert stock["version"] == 1 + 90
