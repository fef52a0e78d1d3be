"""The inventory service alone: payments come from the log, stock is set over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from orderflow.core.postgres.store import PostgresStore
from orderflow.core.postgres.tables import tables_of
from orderflow.core.store import DataRefusedError
from orderflow.events.inventory import StockRejected, StockReserved
from orderflow.events.order import Item
from orderflow.events.payment import PaymentSucceeded
from orderflow.services.inventory.service import DEMO_CATALOGUE, SERVICE
from tests.support.postgres import PostgresServer
from tests.support.saga import Databases, Wire, databases, new_order_id, running, wire
from tests.support.waiting import eventually


@pytest.fixture
def made(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, "inventory") as fresh:
        yield fresh


@pytest.fixture
async def service(made: Databases, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    await made.migrate()
    async with running("inventory", made, tmp_path, demo_catalogue=False) as client:
        yield client


@pytest.fixture
async def log(service: httpx2.AsyncClient, made: Databases) -> AsyncIterator[Wire]:
    async with wire(made) as opened:
        yield opened


def paid(order_id: UUID, *lines: tuple[str, int]) -> PaymentSucceeded:
    items = tuple(Item(sku=sku, quantity=quantity, unit_price=1) for sku, quantity in lines)
    total = sum(quantity for _, quantity in lines)
    return PaymentSucceeded(order_id=order_id, customer_id="c", currency="EUR", items=items, total=total)


async def put(service: httpx2.AsyncClient, sku: str, on_hand: int) -> httpx2.Response:
    return await service.put(f"/stock/{sku}", json={"on_hand": on_hand})


async def shown(service: httpx2.AsyncClient, sku: str) -> tuple[int, int]:
    stock = (await service.get(f"/stock/{sku}")).json()
    return stock["on_hand"], stock["reserved"]


async def all_movements(service: httpx2.AsyncClient, sku: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = (await service.get(f"/stock/{sku}/movements?limit=2{cursor}")).json()
        found += page["movements"]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


async def test_stock_is_made_set_shown_and_listed(service: httpx2.AsyncClient) -> None:
    made = await put(service, "SKU-B", 5)
    assert (made.status_code, made.json()["created"]) == (201, True)
    changed = await put(service, "SKU-B", 8)
    assert (changed.status_code, changed.json()["on_hand"]) == (200, 8)
    assert (await put(service, "SKU-B", 8)).json()["version"] == 2
    for sku in ("SKU-C", "SKU-A", "sku-a"):
        await put(service, sku, 0)
    seen: list[str] = []
    page = (await service.get("/stock?limit=3")).json()
    seen += [each["sku"] for each in page["stock"]]
    page = (await service.get(f"/stock?limit=3&cursor={page['next']}")).json()
    seen += [each["sku"] for each in page["stock"]]
    assert seen == ["SKU-A", "SKU-B", "SKU-C", "sku-a"]
    assert page["next"] is None
    assert (await service.get("/stock/SKU-X")).status_code == 404
    assert (await service.get("/stock/SKU-X/movements")).status_code == 404


async def test_a_change_that_somebody_has_not_seen_is_not_overwritten(service: httpx2.AsyncClient) -> None:
    async def put_if(on_hand: int, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await service.put("/stock/SKU-A", json={"on_hand": on_hand}, headers=named)

    assert (await put_if(1, if_match="*")).status_code == 412
    assert (await put_if(1, if_match='"1"')).status_code == 412
    first = await put_if(5, if_none_match="*")
    assert (first.status_code, first.headers["etag"]) == (201, '"1"')
    again = await put_if(6, if_none_match="*")
    assert (again.status_code, again.json()["type"]) == (412, "/docs/problems/precondition-failed")
    assert "already exists: its version is 1" in again.json()["detail"]
    second = await put_if(6, if_match='"1"')
    assert (second.status_code, second.headers["etag"]) == (200, '"2"')
    assert (await service.get("/stock/SKU-A")).headers["etag"] == '"2"'
    late = await put_if(7, if_match='"1"')
    assert late.status_code == 412
    assert "is not as you last saw it: its version is 2" in late.json()["detail"]
    assert (await put_if(7, if_match='W/"2"')).status_code == 412
    assert (await put_if(7, if_none_match='W/"2"')).status_code == 412
    assert (await put_if(7, if_match='"other", "99999999999999999999"')).status_code == 412
    assert (await put_if(7, if_match="2")).status_code == 422
    assert await shown(service, "SKU-A") == (6, 0)
    assert (await put_if(7, if_match='"1", "2"', if_none_match='"1"')).status_code == 200
    assert (await put_if(8, if_match="*")).status_code == 200


async def test_of_two_who_have_seen_the_same_one_wins(service: httpx2.AsyncClient) -> None:
    await put(service, "SKU-A", 5)
    answers = await asyncio.gather(
        *(
            service.put("/stock/SKU-A", json={"on_hand": number}, headers={"if-match": '"1"'})
            for number in range(10, 18)
        )
    )
    assert sorted(each.status_code for each in answers) == [200] + [412] * 7


async def test_who_has_changed_the_stock_and_why_is_in_the_operators_log(service: httpx2.AsyncClient) -> None:
    who = {"x-orderflow-operator": "ada"}
    await service.put("/stock/SKU-A", json={"on_hand": 5, "reason": "a delivery"}, headers=who)
    await service.put("/stock/SKU-A", json={"on_hand": 5}, headers=who)
    await service.put("/stock/SKU-A", json={"on_hand": 3}, headers={**who, "if-match": '"7"'})
    await service.put("/stock/SKU-A", json={"on_hand": 3, "reason": "two broke"}, headers={**who, "if-match": '"1"'})

    actions = (await service.get("/ops/actions")).json()
    unseen = "SKU-A is not as you last saw it: its version is 1"
    assert [(each["who"], each["action"], each["target"], each["reason"], each["result"]) for each in actions] == [
        ("tests (says ada)", "set stock", "stock/SKU-A", "two broke", "5 \u2192 3 free units, version 2"),
        ("tests (says ada)", "set stock", "stock/SKU-A", "", f"refused: {unseen}"),
        ("tests (says ada)", "set stock", "stock/SKU-A", "a delivery", "0 \u2192 5 free units, version 1"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"on_hand": -1},
        {"on_hand": 1.5},
        {"on_hand": 1_000_000_001},
        {"on_hand": True},
        {"on_hand": 1, "reserved": 0},
    ],
)
async def test_stock_that_cannot_be_is_refused(service: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    refused = await service.put("/stock/SKU-A", json=body)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] in ("/on_hand", "/reserved")
    assert (await service.get("/stock")).json()["stock"] == []


async def test_a_paid_order_takes_all_its_lines_once_however_often_it_is_heard_of(
    service: httpx2.AsyncClient, log: Wire
) -> None:
    await put(service, "SKU-A", 5)
    await put(service, "SKU-B", 5)
    order_id = new_order_id()
    for sequence in (1, 1, 2):
        await log.say(paid(order_id, ("SKU-A", 2), ("SKU-B", 5)), "/orderflow/payment", sequence)
    event = await log.hear(StockReserved, order_id)
    assert [(line.sku, line.quantity) for line in event.lines] == [("SKU-A", 2), ("SKU-B", 5)]
    other = new_order_id()
    await log.say(paid(other, ("SKU-A", 1)), "/orderflow/payment")
    await log.hear(StockReserved, other)
    assert (await shown(service, "SKU-A"), await shown(service, "SKU-B")) == ((2, 3), (0, 5))
    movements = await all_movements(service, "SKU-A")
    assert [(each["version"], each["kind"], each["on_hand_change"]) for each in movements] == [
        (3, "reserve", -1),
        (2, "reserve", -2),
        (1, "set", 5),
    ]
    assert [each["cause"] for each in movements[:2]] == [str(other), str(order_id)]


async def test_an_order_that_lacks_one_line_takes_nothing(service: httpx2.AsyncClient, log: Wire) -> None:
    await put(service, "SKU-A", 5)
    order_id = new_order_id()
    await log.say(paid(order_id, ("SKU-A", 2), ("SKU-NONE", 1)), "/orderflow/payment")
    event = await log.hear(StockRejected, order_id)
    assert [(line.sku, line.requested, line.available) for line in event.missing] == [("SKU-NONE", 1, 0)]
    assert await shown(service, "SKU-A") == (5, 0)


async def test_units_are_never_sold_twice_and_every_movement_is_kept(service: httpx2.AsyncClient, log: Wire) -> None:
    await put(service, "SKU-A", 30)
    orders = [new_order_id() for _ in range(40)]
    settings = [put(service, "SKU-A", 30) for _ in range(3)]
    said = [log.say(paid(order_id, ("SKU-A", 1)), "/orderflow/payment") for order_id in orders]
    await asyncio.gather(*said, *settings)

    async def ended() -> bool:
        return len(await log.heard(StockReserved, StockRejected)) == len(orders)

    await eventually(ended)
    on_hand, reserved = await shown(service, "SKU-A")
    movements = await all_movements(service, "SKU-A")
    assert sum(each["on_hand_change"] for each in movements) == on_hand >= 0
    assert sum(each["reserved_change"] for each in movements) == reserved
    assert [each["version"] for each in movements] == list(range(len(movements), 0, -1))


async def test_a_first_start_puts_in_the_demo_catalogue_and_a_second_leaves_the_stock(
    made: Databases, tmp_path: Path
) -> None:
    await made.migrate()
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
    async with running("inventory", made, tmp_path / "first") as service:
        stock = (await service.get("/stock")).json()["stock"]
        assert {each["sku"]: each["on_hand"] for each in stock} == dict(DEMO_CATALOGUE)
        await put(service, "SKU-TEA-TOWEL", 7)
    async with running("inventory", made, tmp_path / "second") as service:
        assert await shown(service, "SKU-TEA-TOWEL") == (7, 0)


async def test_no_catalogue_is_put_in_beside_articles_of_your_own(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
    async with running("inventory", made, tmp_path / "first", demo_catalogue=False) as service:
        await put(service, "MY-OWN", 1)
    async with running("inventory", made, tmp_path / "second") as service:
        assert [each["sku"] for each in (await service.get("/stock")).json()["stock"]] == ["MY-OWN"]


async def test_no_catalogue_is_put_in_where_it_is_not_wanted(service: httpx2.AsyncClient) -> None:
    assert (await service.get("/stock")).json() == {"stock": [], "next": None}


async def test_the_database_lets_nobody_give_back_what_is_not_reserved(made: Databases) -> None:
    await made.migrate()
    store = await PostgresStore.connect(made.urls["inventory"], tables=tables_of(SERVICE.tables))
    try:
        for status, lines, missing in (("REJECTED", "[]", "[{}]"), ("RELEASED", "[{}]", "[]")):
            await store.fetch(
                "INSERT INTO reservations (order_id, status, lines, missing, released_by) SELECT gen_random_uuid(),"
                " $1::text, $2::jsonb, $3::jsonb, CASE $1 WHEN 'RELEASED' THEN gen_random_uuid() END",
                status,
                lines,
                missing,
            )
            with pytest.raises(DataRefusedError, match=f"what is {status} cannot be given back"):
                await store.fetch(
                    "UPDATE reservations SET status = 'RELEASED', released_by = gen_random_uuid() WHERE status = $1",
                    status,
                )
    finally:
        await store.close()
