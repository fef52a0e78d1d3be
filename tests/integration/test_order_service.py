"""The order service alone: its API, and what it hears from the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from orderflow.core.dead_letters import Parked, Reopened
from orderflow.events.inventory import MissingLine, ReservedLine, StockRejected, StockReserved
from orderflow.events.order import Item, OrderCompleted, OrderFailed, OrderPlaced
from orderflow.events.payment import PaymentFailed, PaymentRefunded, PaymentSucceeded, RefundFailed
from tests.support.postgres import PostgresServer
from tests.support.saga import Databases, Wire, databases, running, wire
from tests.support.waiting import eventually

BODY: dict[str, Any] = {
    "customer_id": "c",
    "currency": "EUR",
    "items": [{"sku": "SKU-A", "quantity": 2, "unit_price": 1250}],
    "payment_method": "pm_card_visa",
}
KEY = {"Idempotency-Key": '"first"'}


@pytest.fixture
def made(postgres: PostgresServer) -> Iterator[Databases]:
    with databases(postgres, "order") as fresh:
        yield fresh


@pytest.fixture
async def service(made: Databases, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    await made.migrate()
    async with running("order", made, tmp_path) as client:
        yield client


@pytest.fixture
async def log(service: httpx2.AsyncClient, made: Databases) -> AsyncIterator[Wire]:
    async with wire(made) as opened:
        yield opened


def database(made: Databases) -> str:
    return made.urls["order"].rpartition("/")[2]


async def place(service: httpx2.AsyncClient, **changes: object) -> UUID:
    placed = await service.post("/orders", json={**BODY, **changes})
    assert placed.status_code == 201, placed.text
    return UUID(placed.json()["id"])


async def shown(service: httpx2.AsyncClient, order_id: UUID) -> dict[str, Any]:
    answer: dict[str, Any] = (await service.get(f"/orders/{order_id}")).json()
    return answer


async def at(service: httpx2.AsyncClient, order_id: UUID, status: str) -> dict[str, Any]:
    async def look() -> dict[str, Any]:
        order = await shown(service, order_id)
        assert order["status"] == status, order
        return order

    return await eventually(look)


def succeeded(order_id: UUID) -> PaymentSucceeded:
    items = (Item(sku="SKU-A", quantity=2, unit_price=1250),)
    return PaymentSucceeded(order_id=order_id, customer_id="c", currency="EUR", items=items, total=2500)


def reserved(order_id: UUID) -> StockReserved:
    return StockReserved(order_id=order_id, customer_id="c", lines=(ReservedLine(sku="SKU-A", quantity=2),))


@pytest.mark.parametrize("field", ["customer_id", "payment_method"])
async def test_a_blank_text_names_nobody(service: httpx2.AsyncClient, field: str) -> None:
    refused = await service.post("/orders", json={**BODY, field: " \u3000"}, headers=KEY)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == f"/{field}"
    assert "not blank" in refused.json()["detail"]


async def test_a_placed_order_is_answered_located_and_published(service: httpx2.AsyncClient, log: Wire) -> None:
    placed = await service.post("/orders", json=BODY)
    order = placed.json()
    assert placed.status_code == 201
    assert placed.headers["location"] == f"/orders/{order['id']}"
    assert (order["status"], order["total"], order["items"]) == ("PENDING", 2500, BODY["items"])
    event = await log.hear(OrderPlaced, UUID(order["id"]))
    assert (event.total, event.customer_id, event.payment_method) == (2500, "c", "pm_card_visa")
    details = await shown(service, UUID(order["id"]))
    assert {name: details[name] for name in order} == order
    assert [(step["status"], step["cause"]) for step in details["history"]] == [("PENDING", None)]


@pytest.mark.parametrize(
    ("pointer", "changes"),
    [
        ("/total", {"total": 1}),
        ("/currency", {"currency": "eur"}),
        ("/items/0/quantity", {"items": [{"sku": "A", "quantity": -1, "unit_price": 1}]}),
        ("/items/1/sku", {"items": [{"sku": "A", "quantity": 1, "unit_price": 1}] * 2}),
    ],
)
async def test_a_refused_order_names_the_field_and_stores_nothing(
    service: httpx2.AsyncClient, made: Databases, postgres: PostgresServer, pointer: str, changes: dict[str, Any]
) -> None:
    refused = await service.post("/orders", json={**BODY, **changes}, headers=KEY)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["errors"][0]["pointer"] == pointer
    rows = "SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM idempotency_keys)"
    assert postgres.execute(rows, database(made)) == "0"


async def test_the_same_key_and_body_give_the_same_answer_marked_as_replayed(service: httpx2.AsyncClient) -> None:
    first = await service.post("/orders", json=BODY, headers=KEY)
    reordered = dict(reversed(BODY.items()))
    again = await service.post("/orders", json=reordered, headers={"Idempotency-Key": "first"})
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len((await service.get("/orders")).json()["orders"]) == 1


async def test_the_same_key_with_another_body_is_refused(service: httpx2.AsyncClient) -> None:
    await service.post("/orders", json=BODY, headers=KEY)
    other = await service.post("/orders", json={**BODY, "customer_id": "another"}, headers=KEY)
    assert other.status_code == 422
    assert other.json()["errors"][0]["parameter"] == "Idempotency-Key"


async def test_a_replay_is_the_first_answer_also_when_the_order_has_moved_on(
    service: httpx2.AsyncClient, log: Wire
) -> None:
    first = await service.post("/orders", json=BODY, headers=KEY)
    order_id = UUID(first.json()["id"])
    await log.say(succeeded(order_id), "/orderflow/payment")
    await at(service, order_id, "PAID")
    assert (await service.post("/orders", json=BODY, headers=KEY)).json()["status"] == "PENDING"


async def test_of_requests_at_the_same_time_with_one_key_one_places_the_order(service: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(service.post("/orders", json=BODY, headers=KEY) for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    placed = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(placed) == 1
    assert len((await service.get("/orders")).json()["orders"]) == 1


async def test_two_processes_place_one_order_for_one_key(
    service: httpx2.AsyncClient, made: Databases, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    async with running("order", made, tmp_path / "second") as second:
        clients = [service, second] * 6
        answers = await asyncio.gather(*(each.post("/orders", json=BODY, headers=KEY) for each in clients))
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1


@pytest.mark.parametrize("key", ["", '""', '"a', "x" * 256, "a b"])
async def test_a_malformed_key_is_refused_by_name(service: httpx2.AsyncClient, key: str) -> None:
    refused = await service.post("/orders", json=BODY, headers={"Idempotency-Key": key})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["parameter"] == "Idempotency-Key"


async def test_keys_are_forgotten_after_their_time_and_orders_are_not(
    made: Databases, postgres: PostgresServer
) -> None:
    from orderflow.core.postgres.store import PostgresStore
    from orderflow.services.order.storage import Orders

    await made.migrate()
    insert = (
        "INSERT INTO idempotency_keys (idempotency_key, fingerprint, order_id, response, created_at) "
        "SELECT 'k' || n, 'f', gen_random_uuid(), '{}', now() - n * interval '1 hour' "
        "FROM generate_series(1, 48) AS n"
    )
    postgres.execute(insert, database(made))
    store = await PostgresStore.connect(made.urls["order"], tables=())
    try:
        orders = Orders(store)
        purged = [await orders.purge_keys(24 * 3600, 10) for _ in range(4)]
        assert purged == [10, 10, 5, 0]
    finally:
        await store.close()


async def test_upkeep_forgets_no_key_before_its_time(made: Databases, postgres: PostgresServer) -> None:
    from types import SimpleNamespace

    from orderflow.core.postgres.store import PostgresStore
    from orderflow.services.order.storage import forget_old_keys

    await made.migrate()
    insert = (
        "INSERT INTO idempotency_keys (idempotency_key, fingerprint, order_id, response, created_at) "
        "SELECT 'k' || n, 'f', gen_random_uuid(), '{}', now() - n * interval '1 hour' "
        "FROM unnest(ARRAY[1, 23, 25]) AS n"
    )
    postgres.execute(insert, database(made))
    store = await PostgresStore.connect(made.urls["order"], tables=())
    try:
        context: Any = SimpleNamespace(database=store, config=SimpleNamespace(idempotency_keep_s=24 * 3600))
        await forget_old_keys(context)
        kept = await store.fetch("SELECT idempotency_key FROM idempotency_keys ORDER BY created_at")
        assert [row[0] for row in kept] == ["k23", "k1"]
    finally:
        await store.close()


async def test_orders_are_listed_newest_first_by_status_and_page(service: httpx2.AsyncClient, log: Wire) -> None:
    placed = sorted([await place(service) for _ in range(5)])
    await log.say(succeeded(placed[0]), "/orderflow/payment")
    failed = PaymentFailed(order_id=placed[1], customer_id="c", currency="EUR", total=2500, reason="lost_card")
    await log.say(failed, "/orderflow/payment")
    await at(service, placed[0], "PAID")
    await at(service, placed[1], "FAILED")
    seen: list[str] = []
    cursor: str | None = None
    while cursor is not None or not seen:
        params: dict[str, str | int] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await service.get("/orders", params=params)).json()
        seen += [order["id"] for order in page["orders"]]
        cursor = page["next"]
    assert seen == [str(order_id) for order_id in reversed(placed)]
    by_status = {
        status: [order["id"] for order in (await service.get(f"/orders?status={status}")).json()["orders"]]
        for status in ("PENDING", "PAID", "COMPLETED", "FAILED")
    }
    assert by_status == {
        "PENDING": [str(each) for each in reversed(placed[2:])],
        "PAID": [str(placed[0])],
        "COMPLETED": [],
        "FAILED": [str(placed[1])],
    }


async def test_orders_that_have_not_ended_are_listed_oldest_first_whatever_their_status(
    service: httpx2.AsyncClient, log: Wire
) -> None:
    pending, paid, ended, last = [await place(service) for _ in range(4)]
    for order_id in (paid, ended):
        await log.say(succeeded(order_id), "/orderflow/payment")
    await log.say(reserved(ended), "/orderflow/inventory")
    await at(service, ended, "COMPLETED")
    await at(service, paid, "PAID")

    page = (await service.get("/orders?unfinished=true&limit=2")).json()
    rest = (await service.get(f"/orders?unfinished=true&limit=2&cursor={page['next']}")).json()

    assert [[UUID(order["id"]) for order in each["orders"]] for each in (page, rest)] == [[pending, paid], [last]]
    assert rest["next"] is None


async def test_orders_are_found_by_customer_sku_and_status(service: httpx2.AsyncClient, log: Wire) -> None:
    ada = [await place(service, customer_id="ada") for _ in range(3)]
    rare = [{"sku": "SKU-A", "quantity": 1, "unit_price": 1}, {"sku": "SKU-RARE", "quantity": 1, "unit_price": 1}]
    other = await place(service, customer_id="bob", items=rare)

    async def ids(query: str) -> tuple[list[UUID], str | None]:
        page = (await service.get(f"/orders?{query}")).json()
        return [UUID(order["id"]) for order in page["orders"]], page["next"]

    assert await ids("customer_id=ada") == (ada[::-1], None)
    assert await ids("sku=SKU-RARE") == ([other], None)
    assert await ids("customer_id=ada&sku=SKU-RARE") == ([], None)
    assert await ids("customer_id=ada&status=FAILED") == ([], None)
    found, cursor = await ids("customer_id=ada&limit=2")
    assert found == ada[:0:-1]
    assert await ids(f"customer_id=ada&limit=2&cursor={cursor}") == (ada[:1], None)


async def test_a_search_that_has_not_looked_through_all_orders_says_where_to_go_on(
    service: httpx2.AsyncClient, made: Databases, postgres: PostgresServer
) -> None:
    first = await place(service, customer_id="ada")
    postgres.execute(
        "INSERT INTO orders (order_id, customer_id, currency, items, total, payment_method, status, version, event) "
        "SELECT uuidv7(), 'crowd', 'EUR', '[{\"sku\": \"SKU-A\"}]', 1, 'pm', 'PENDING', 1, 'OrderPlaced' "
        "FROM generate_series(1, 20000)",
        database(made),
    )
    page = (await service.get("/orders?customer_id=ada")).json()
    assert page["orders"] == []
    page = (await service.get(f"/orders?customer_id=ada&cursor={page['next']}")).json()
    assert [UUID(order["id"]) for order in page["orders"]] == [first]


async def test_it_tells_how_many_orders_are_under_way_and_how_long_states_last(
    service: httpx2.AsyncClient, log: Wire
) -> None:
    waiting = await place(service)
    ended = await place(service)
    await log.say(succeeded(ended), "/orderflow/payment")
    await log.say(reserved(ended), "/orderflow/inventory")
    await at(service, ended, "COMPLETED")

    told = (await service.get("/ops/order-states")).json()
    assert [(each["status"], each["orders"]) for each in told["unfinished"]] == [("PENDING", 1)]
    assert told["unfinished"][0]["oldest"] == (await shown(service, waiting))["created_at"]
    dwell = {(each["status"], each["event"]): each for each in told["dwell"]}
    assert dwell.keys() == {("PENDING", "PaymentSucceeded"), ("PAID", "StockReserved")}
    assert all(each["orders"] == 1 and 0 <= each["median_ms"] <= each["slow_ms"] for each in dwell.values())


@pytest.mark.parametrize("query", ["cursor=nonsense", "cursor=%C3%A9", "limit=0", "limit=101", "status=LOST", "x=1"])
async def test_a_list_is_refused_for_parameters_that_do_not_fit(service: httpx2.AsyncClient, query: str) -> None:
    refused = await service.get(f"/orders?{query}")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["parameter"] == query.partition("=")[0]


async def test_there_is_no_other_order(service: httpx2.AsyncClient) -> None:
    for order_id in ("01981c5e-7a40-7000-8000-0123456789ab", "nonsense"):
        assert (await service.get(f"/orders/{order_id}")).status_code == 404


async def test_who_waits_is_answered_when_the_order_ends(service: httpx2.AsyncClient, log: Wire) -> None:
    order_id = await place(service)
    waiting = asyncio.create_task(service.get(f"/orders/{order_id}?wait=50"))
    await log.say(succeeded(order_id), "/orderflow/payment")
    await at(service, order_id, "PAID")
    assert not waiting.done()
    await log.say(reserved(order_id), "/orderflow/inventory")
    assert (await waiting).json()["status"] == "COMPLETED"
    again = await service.get(f"/orders/{order_id}?wait=60")
    assert again.json()["status"] == "COMPLETED"


async def test_who_waits_too_short_gets_the_order_as_it_stands(service: httpx2.AsyncClient) -> None:
    order_id = await place(service)
    assert (await service.get(f"/orders/{order_id}?wait=0.05")).json()["status"] == "PENDING"
    assert (await service.get(f"/orders/{order_id}?wait=61")).status_code == 422


async def test_who_waits_in_a_process_that_does_not_end_the_order_is_answered_too(
    service: httpx2.AsyncClient, made: Databases, postgres: PostgresServer
) -> None:
    order_id = await place(service)
    waiting = asyncio.create_task(service.get(f"/orders/{order_id}?wait=50"))
    ended = (
        "SET session_replication_role = replica; UPDATE orders SET status = 'COMPLETED', version = 3, "
        f"event = 'StockReserved' WHERE order_id = '{order_id}'"
    )
    postgres.execute(ended, database(made))
    assert (await waiting).json()["status"] == "COMPLETED"


async def test_inventory_that_overtakes_the_payment_waits_for_its_turn(
    service: httpx2.AsyncClient, log: Wire, made: Databases, postgres: PostgresServer
) -> None:
    order_id = await place(service)
    early = await log.say(reserved(order_id), "/orderflow/inventory")
    kept = f"SELECT early ->> 'event' FROM orders WHERE order_id = '{order_id}'"
    await eventually(lambda: postgres.execute(kept, database(made)) == "StockReserved")
    paid = await log.say(succeeded(order_id), "/orderflow/payment")
    order = await at(service, order_id, "COMPLETED")
    assert [step["status"] for step in order["history"]] == ["PENDING", "PAID", "COMPLETED"]
    assert [step["cause"] for step in order["history"]] == [None, str(paid), str(early)]
    await log.hear(OrderCompleted, order_id)


async def test_a_refund_heard_before_its_reason_ends_right(service: httpx2.AsyncClient, log: Wire) -> None:
    order_id = await place(service)
    await log.say(succeeded(order_id), "/orderflow/payment")
    refunded = PaymentRefunded(order_id=order_id, customer_id="c", currency="EUR", amount=2500)
    await log.say(refunded, "/orderflow/payment", 2)

    async def done() -> bool:
        return bool((await shown(service, order_id))["refund"] == "done")

    await eventually(done)
    missing = (MissingLine(sku="SKU-A", requested=2, available=0),)
    await log.say(StockRejected(order_id=order_id, customer_id="c", missing=missing), "/orderflow/inventory")
    order = await at(service, order_id, "FAILED")
    assert (order["reason"], order["refund"]) == ("out_of_stock", "done")
    assert [(step["event"], step["status"], step["version"], step["refund"]) for step in order["history"]] == [
        ("OrderPlaced", "PENDING", 1, None),
        ("PaymentSucceeded", "PAID", 2, None),
        ("PaymentRefunded", "PAID", 2, "done"),
        ("StockRejected", "FAILED", 3, None),
    ]
    assert (await log.hear(OrderFailed, order_id)).reason == "out_of_stock"


async def test_every_step_of_a_refund_is_a_row_of_the_history_with_its_cause(
    service: httpx2.AsyncClient, log: Wire
) -> None:
    order_id = await place(service)
    about: dict[str, Any] = {"order_id": order_id, "customer_id": "c", "currency": "EUR", "amount": 2500}
    missing = (MissingLine(sku="SKU-A", requested=2, available=0),)
    await log.say(succeeded(order_id), "/orderflow/payment")
    rejected = await log.say(
        StockRejected(order_id=order_id, customer_id="c", missing=missing), "/orderflow/inventory"
    )
    await at(service, order_id, "FAILED")  # the two topics have no order between them
    refusals = [
        await log.say(RefundFailed(**about, reason="charge_missing"), "/orderflow/payment", sequence)
        for sequence in (2, 3)
    ]
    refunded = await log.say(PaymentRefunded(**about), "/orderflow/payment", 4)

    async def done() -> dict[str, Any]:
        order = await shown(service, order_id)
        return order if order["refund"] == "done" else {}

    order = await eventually(done)
    assert [(step["refund"], step["reason"], step["cause"]) for step in order["history"][3:]] == [
        ("due", None, str(rejected)),
        ("refused", "charge_missing", str(refusals[0])),
        ("refused", "charge_missing", str(refusals[1])),
        ("done", None, str(refunded)),
    ]
    assert {(step["status"], step["version"]) for step in order["history"][2:]} == {("FAILED", 3)}


async def test_what_was_not_ordered_so_does_not_complete_the_order(service: httpx2.AsyncClient, log: Wire) -> None:
    order_id = await place(service)
    items = (Item(sku="SKU-A", quantity=1, unit_price=1),)
    cheap = PaymentSucceeded(order_id=order_id, customer_id="c", currency="EUR", items=items, total=1)
    await log.say(cheap, "/orderflow/payment")
    await log.say(reserved(order_id), "/orderflow/inventory")

    async def stuck() -> dict[str, Any]:
        return dict((await shown(service, order_id))["stuck"].get("order", {}))

    obstacle = await eventually(stuck)
    assert obstacle["error"] == "DisagreementError"
    letters = await service.get("/ops/dead-letters", params={"key": str(order_id), "state": "all"})
    message = letters.json()["dead_letters"][0]["message"]
    assert message.startswith("PaymentSucceeded does not agree with what is known of the order: total is 1, and here")
    assert (await shown(service, order_id))["status"] == "PENDING"


async def test_what_came_already_has_no_effect_whoever_sends_it_again(service: httpx2.AsyncClient, log: Wire) -> None:
    order_id = await place(service)
    for sequence in (1, 1, 2):
        await log.say(succeeded(order_id), "/orderflow/payment", sequence)
    await log.say(reserved(order_id), "/orderflow/inventory")
    order = await at(service, order_id, "COMPLETED")
    assert len(order["history"]) == 3
    assert order["stuck"] == {}
    await log.hear(OrderCompleted, order_id)


async def test_an_order_shows_where_it_is_stuck_until_it_flows_again(service: httpx2.AsyncClient, log: Wire) -> None:
    order_id = await place(service)
    told = {"subject_key": str(order_id), "consumer": "payment", "event_id": "e", "event_type": "t"}
    await log.say(Parked(**told, error="KeyError"), "/orderflow/payment/flow")

    async def stuck() -> dict[str, Any]:
        order = await shown(service, order_id)
        assert order["stuck"].get("payment", {}).get("state") == "parked"
        return order

    order = await eventually(stuck)
    assert order["stuck"]["payment"]["error"] == "KeyError"
    assert order["stuck_since"] is not None
    await log.say(Parked(**{**told, "subject_key": "no-order"}, error="x"), "/orderflow/payment/flow")
    await log.say(Reopened(**told), "/orderflow/payment/flow", 2)

    async def free() -> bool:
        order = await shown(service, order_id)
        return bool(order["stuck"] == {} and order["stuck_since"] is None)

    await eventually(free)


async def test_an_illegal_event_is_given_up_and_shown_on_its_order(service: httpx2.AsyncClient, log: Wire) -> None:
    order_id, other = await place(service), await place(service)
    missing = (MissingLine(sku="SKU-A", requested=2, available=0),)
    await log.say(succeeded(order_id), "/orderflow/payment")
    await log.say(reserved(order_id), "/orderflow/inventory")
    await at(service, order_id, "COMPLETED")
    await log.say(StockRejected(order_id=order_id, customer_id="c", missing=missing), "/orderflow/inventory", 2)

    async def stuck() -> bool:
        return bool((await shown(service, order_id))["stuck"].get("order", {}).get("state") == "dead")

    await eventually(stuck)
    await log.say(succeeded(other), "/orderflow/payment")
    await log.say(reserved(other), "/orderflow/inventory")
    await at(service, other, "COMPLETED")


async def test_too_many_unfinished_orders_are_told_to_come_later(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    async with running("order", made, tmp_path, unfinished_orders_max=3) as service, wire(made) as log:
        placed = [await place(service) for _ in range(3)]
        refused = await service.post("/orders", json=BODY)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        await log.say(succeeded(placed[0]), "/orderflow/payment")
        await log.say(reserved(placed[0]), "/orderflow/inventory")
        await at(service, placed[0], "COMPLETED")

        async def let_in() -> bool:
            return (await service.post("/orders", json=BODY)).status_code == 201

        await eventually(let_in, every_s=0.1)


async def test_who_would_wait_when_enough_do_is_told_to_come_later(made: Databases, tmp_path: Path) -> None:
    await made.migrate()
    async with running("order", made, tmp_path, http_waiting_max=1) as service, wire(made) as log:
        first, other = await place(service), await place(service)
        waiting = [asyncio.create_task(service.get(f"/orders/{each}?wait=50")) for each in (first, other)]
        (refused,), (pending,) = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert refused.result().status_code == 503
        assert int(refused.result().headers["retry-after"]) >= 1
        assert (await shown(service, other))["status"] == "PENDING"
        for order_id in (first, other):
            await log.say(succeeded(order_id), "/orderflow/payment")
            await log.say(reserved(order_id), "/orderflow/inventory")
        assert (await pending).json()["status"] == "COMPLETED"
        await at(service, first, "COMPLETED")
        assert (await service.get(f"/orders/{first}?wait=50")).status_code == 200


async def test_the_documents_name_every_operation(service: httpx2.AsyncClient) -> None:
    document = (await service.get("/openapi.json")).json()
    assert {"/orders", "/orders/{order_id}"} <= set(document["paths"])
    assert "201" in document["paths"]["/orders"]["post"]["responses"]
