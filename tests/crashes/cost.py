"""What crash points cost a process that is not armed."""

from __future__ import annotations

import tempfile
import timeit
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from time import process_time

import httpx2

from orderflow.core.crash_points import Point, arm, reached
from orderflow.registry import SAGA
from tests.support.postgres import PostgresServer
from tests.support.saga import databases, running
from tests.support.waiting import eventually

CALLS = 1_000_000
ORDER = {
    "customer_id": "ada",
    "currency": "EUR",
    "items": [{"sku": "SKU-ESPRESSO-CUP", "quantity": 1, "unit_price": 590}],
    "payment_method": "pm_card_visa",
}


def nanoseconds() -> float:
    """CPU of one call, the best of five runs."""
    call = timeit.Timer("reached(Point.TX_OPENED)", globals={"reached": reached, "Point": Point}, timer=process_time)
    return min(call.repeat(5, CALLS)) / CALLS * 1e9


async def points_of_an_order(server: PostgresServer) -> int:
    """How many points four services pass for an order that is alone, log in PostgreSQL, to its customer's notice."""
    passed: Counter[Point] = Counter()

    def count(point: Point) -> None:
        passed[point] += 1
        arm(dict.fromkeys(Point, 1), count)

    with databases(server, *SAGA) as made, tempfile.TemporaryDirectory() as home:
        await made.migrate()
        async with AsyncExitStack() as stack:
            shop = {name: await stack.enter_async_context(running(name, made, Path(home))) for name in SAGA}
            arm(dict.fromkeys(Point, 1), count)
            try:
                placed = (await shop["order"].post("/orders", json=ORDER)).json()["id"]
                await eventually(lambda: _told(shop["notification"], placed), timeout_s=60)
                return passed.total()
            finally:
                arm({})


async def _told(notification: httpx2.AsyncClient, order_id: str) -> bool:
    answer = await notification.get("/notifications", params={"order_id": order_id})
    return bool(answer.json()["notifications"])
