"""What is killed while orders flow comes back, and all orders end right."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import cycle, islice

import psutil
import pytest

from tests.e2e.audit import assert_promises
from tests.e2e.shop import VISA, Shop
from tests.e2e.system import System
from tests.support.waiting import eventually

BACK_TIMEOUT_S = 90.0
ORDERS = 40
MIX = (
    ("PLENTY", VISA),
    ("PLENTY", "pm_card_chargeDeclined"),
    ("NONE", VISA),
    ("PLENTY", "pm_timeout_charged"),
    ("PLENTY", VISA),
)
ENDS = {"PLENTY": "COMPLETED", "NONE": "FAILED"}


@pytest.mark.parametrize("name", ["order", "payment", "inventory", "notification"])
async def test_a_service_that_is_killed_while_orders_flow_comes_back_and_all_orders_end_right(
    shop: Shop, system: System, name: str
) -> None:
    await all_orders_end_right_though(shop, system, [name])


async def test_postgresql_killed_while_orders_flow_comes_back_and_all_orders_end_right(
    shop: Shop, system: System
) -> None:
    await all_orders_end_right_though(shop, system, system.names("postgres"))


async def test_the_broker_killed_while_orders_flow_comes_back_and_all_orders_end_right(
    shop: Shop, system: System
) -> None:
    """On the embedded log the broker is PostgreSQL: killed together with a service then."""
    await all_orders_end_right_though(shop, system, system.names("kafka") or ["postgres", "payment"])


async def all_orders_end_right_though(shop: Shop, system: System, killed: Sequence[str]) -> None:
    """Kill these once a part of the orders is accepted, while the others are placed and carried on."""
    await shop.stock("PLENTY", 10_000)
    await shop.stock("NONE", 0)
    orders = list(islice(cycle(MIX), ORDERS))
    already = len(shop.accepted)
    placing = asyncio.create_task(shop.place_many(orders, side_by_side=4))
    await eventually(lambda: len(shop.accepted) >= already + ORDERS // 4, timeout_s=60)
    dead = {name: system.kill(name) for name in killed}

    ids = await placing
    ends = await shop.ends_of(ids)

    for (sku, method), order in zip(orders, ends, strict=True):
        assert order["status"] == ("FAILED" if "Declined" in method else ENDS[sku]), order
        assert order["refund"] == ("done" if sku == "NONE" else "none")
    await eventually(lambda: are_back(system, dead), timeout_s=BACK_TIMEOUT_S)
    await assert_promises(shop)


def are_back(system: System, dead: Mapping[str, psutil.Process]) -> bool:
    """Each has been followed by another process. Raises AssertionError while there is none."""
    return all(system.process(name).pid != process.pid for name, process in dead.items())
