"""`orderflow audit --repair` on real processes: what got lost is healed by the services that own it."""

from __future__ import annotations

import json
from typing import Any

from orderflow.audit.collect import audited
from tests.e2e.audit import assert_promises
from tests.e2e.shop import VISA, Shop
from tests.e2e.system import System
from tests.support.damage import DAMAGES, damage

HEALED = {
    "the order heard of nothing": "TEA",
    "the payment has lost its refund": "RARE",
    "a declined order holds stock": "MILK",
    "the customer was not told": "TEA",
}
METHODS = {"declined": "pm_card_chargeDeclined"}


async def test_what_got_lost_is_planned_healed_and_logged(system: System, shop: Shop) -> None:
    await shop.stock("TEA", 10)
    await shop.stock("MILK", 10)
    await shop.stock("RARE", 0)
    orders = {}
    for name, sku in HEALED.items():
        method = METHODS.get(DAMAGES[name].order, VISA)
        orders[name] = await shop.place(sku, quantity=2, method=method)
    await shop.ends_of(list(orders.values()))
    await assert_promises(shop)
    urls = {name: system.settings().service_database_url(name) for name in audited()}
    for name, order_id in orders.items():
        customer = (await shop.get("payment", f"/payments/{order_id}"))["customer_id"]
        await damage(urls, DAMAGES[name], {"id": order_id, "sku": HEALED[name], "customer": customer})

    planned = system.command("audit", "--repair")
    assert planned.returncode == 5, planned.stderr
    assert all(order_id[-8:] in planned.stdout for order_id in orders.values()), planned.stdout
    assert "payment takes StockRejected again" in planned.stdout

    done = repaired(system)
    assert (done["kept"], done["repair"]["failed"]) == (True, []), done
    await assert_promises(shop)
    logged = json.loads(system.command("dlt", "log", "--json", "--limit", "1000").stdout)["actions"]
    assert {each["target"] for each in logged if each["action"] == "repair"} >= set(orders.values())


def repaired(system: System) -> dict[str, Any]:
    done = system.command("audit", "--repair", "--json", "--yes", "--reason", "ticket 4711", "--wait", "60")
    document: dict[str, Any] = json.loads(done.stdout)
    return document
