"""What becomes of an order, on real processes."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.audit import assert_promises, look
from tests.e2e.shop import VISA, Shop
from tests.support.waiting import eventually


async def test_an_order_that_can_be_paid_and_delivered_is_completed(shop: Shop) -> None:
    await shop.stock("TEA", 10)

    order_id = await shop.place("TEA", quantity=3)
    order = await shop.end_of(order_id)

    assert (order["status"], order["refund"], order["total"]) == ("COMPLETED", "none", 3 * 590)
    assert [step["status"] for step in order["history"]] == ["PENDING", "PAID", "COMPLETED"]
    assert all(step["cause"] for step in order["history"][1:])
    assert (await shop.get("inventory", "/stock/TEA"))["on_hand"] == 7
    await notified(shop, order_id, 1)
    await assert_promises(shop)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("pm_card_chargeDeclined", "card_declined"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ],
)
async def test_an_order_that_the_bank_declines_fails_and_holds_no_stock(shop: Shop, method: str, reason: str) -> None:
    await shop.stock("MILK", 5)

    order_id = await shop.place("MILK", method=method)
    order = await shop.end_of(order_id)

    assert (order["status"], order["reason"], order["refund"]) == ("FAILED", reason, "none")
    assert (await shop.get("inventory", "/stock/MILK"))["on_hand"] == 5
    await notified(shop, order_id, 1)
    await assert_promises(shop)


async def test_an_order_that_is_out_of_stock_fails_and_is_refunded(shop: Shop) -> None:
    await shop.stock("RARE", 1)

    order_id = await shop.place("RARE", quantity=2)
    order = await shop.end_of(order_id)

    assert (order["status"], order["refund"]) == ("FAILED", "done")
    payment = await shop.get("payment", f"/payments/{order_id}")
    assert payment["captured"] == payment["refunded"] == 2 * 590
    assert (await shop.get("inventory", "/stock/RARE"))["on_hand"] == 1
    await notified(shop, order_id, 2)
    await assert_promises(shop)


@pytest.mark.parametrize("method", ["pm_timeout_charged", "pm_timeout_not_charged", "pm_fails_twice", "pm_slow"])
async def test_a_bank_that_misbehaves_charges_once(shop: Shop, method: str) -> None:
    await shop.stock("COFFEE", 5)

    order_id = await shop.place("COFFEE", method=method)
    order = await shop.end_of(order_id)

    assert order["status"] == "COMPLETED"
    assert (await shop.get("payment", f"/payments/{order_id}"))["captured"] == 590
    report = await assert_promises(shop)
    assert report.statuses["COMPLETED"] >= 1


async def test_a_slow_order_does_not_hold_up_the_others(shop: Shop) -> None:
    await shop.stock("QUICK", 50)

    slow = await shop.place("QUICK", method="pm_timeout_not_charged")
    others = await shop.place_many([("QUICK", VISA)] * 20)
    ends = await shop.ends_of(others)

    assert {order["status"] for order in ends} == {"COMPLETED"}
    assert (await shop.end_of(slow))["status"] == "COMPLETED"
    await assert_promises(shop)


async def test_an_order_sent_twice_under_one_key_is_placed_once(shop: Shop) -> None:
    await shop.stock("ONCE", 50)
    order = {
        "customer_id": "ada",
        "currency": "EUR",
        "items": [{"sku": "ONCE", "quantity": 1, "unit_price": 100}],
        "payment_method": VISA,
    }
    headers = {"Idempotency-Key": '"one-and-the-same"'}

    answers = await asyncio.gather(
        *(shop.raw("POST", "order", "/orders", json=order, headers=headers) for _ in range(10))
    )

    assert {answer.status_code for answer in answers} <= {201, 409}
    placed = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(placed) == 1
    await shop.end_of(placed.pop())
    assert (await shop.get("inventory", "/stock/ONCE"))["on_hand"] == 49
    await assert_promises(shop)


async def test_what_is_wrong_with_an_order_is_said_and_nothing_is_stored(shop: Shop) -> None:
    answer = await shop.raw("POST", "order", "/orders", json={"customer_id": "ada", "total": 1})

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    await assert_promises(shop)


async def test_an_audit_while_orders_come_finds_nothing(shop: Shop) -> None:
    """Completed, declined, refunded, slow and unsure: at every moment some of each are under way."""
    await shop.stock("BUSY", 10_000)
    await shop.stock("SCARCE", 20)
    methods = (VISA, "pm_card_chargeDeclined", VISA, "pm_timeout_charged", "pm_slow")
    orders = [("SCARCE" if number % 3 else "BUSY", methods[number % 5]) for number in range(240)]
    trading = asyncio.create_task(shop.place_many(orders))

    reports = [await look(shop)]
    while not trading.done():
        reports.append(await look(shop))
    await trading

    assert [finding for report in reports for finding in report.findings] == []
    assert not all(report.at_rest for report in reports)
    await assert_promises(shop)


async def notified(shop: Shop, order_id: str, count: int) -> None:
    """One notification an outcome: so many, and no more when all is at rest."""

    async def there() -> bool:
        found = await shop.get("notification", f"/notifications?order_id={order_id}")
        return len(found["notifications"]) == count

    await eventually(there)
