"""One trace from the HTTP request to the notification, on real processes, as a receiver of OTLP gets it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from orderflow.observability.catalogue import SPANS
from tests.e2e.shop import VISA, Shop
from tests.e2e.system import System
from tests.support.otlp import SpanSeen, TraceReceiver, receiving_traces
from tests.support.waiting import eventually

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CUSTOMER = "Ada Countess of Lovelace"


@pytest.fixture
def receiver() -> Iterator[TraceReceiver]:
    with receiving_traces() as made:
        yield made


@pytest.fixture
async def shop(broker_jars: Path | None, receiver: TraceReceiver) -> AsyncIterator[Shop]:
    system = System(broker_jars, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    shop = Shop(system)
    try:
        await system.start()
        yield shop
    finally:
        await shop.close()
        system.remove()


async def test_an_order_is_one_trace_from_its_request_to_its_notifications(
    shop: Shop, receiver: TraceReceiver
) -> None:
    await shop.stock("TEA", 1000)
    order_id = await place(shop, f"00-{TRACE}-{CALLER}-01")
    await eventually(lambda: is_whole(receiver.of(TRACE)) and parents_are_there(receiver.of(TRACE)))
    spans = receiver.of(TRACE)

    assert [each for each in spans if each.end < each.start] == []
    assert one(spans, "POST /orders").parent == CALLER
    assert {each.kind for each in spans if each.name.startswith("send ")} == {"producer"}
    assert {each.kind for each in spans if each.name.startswith("process ")} == {"consumer"}
    assert (one(spans, "POST /orders").kind, one(spans, "ask charge").kind) == ("server", "client")
    assert readers_of(spans, "order-events") == {"payment"}
    assert readers_of(spans, "payment-status") == {"order", "inventory"}
    assert readers_of(spans, "inventory-status") == {"order", "notification"}
    assert {each.attributes["messaging.message.conversation_id"] for each in spans if moves(each)} == {order_id}
    shipped = shop.system.settings().transport
    assert {each.attributes["messaging.system"] for each in spans if moves(each)} == {
        "kafka" if shipped == "kafka" else "postgresql"
    }
    assert not any(CUSTOMER.encode() in body or VISA.encode() in body for body in receiver.bodies)
    assert set(receiver.paths) == {"/v1/traces"}

    await a_batch_is_linked_with_all_that_it_carries(shop, receiver)
    assert {of_the_catalogue(each) for each in receiver.spans} == {each.name for each in SPANS}


async def a_batch_is_linked_with_all_that_it_carries(shop: Shop, receiver: TraceReceiver) -> None:
    """Orders come at once until some have gone in together."""

    async def batches() -> bool:
        await shop.place_many([("TEA", VISA)] * 30)
        return {"process batch", "send batch"} <= {each.name for each in receiver.spans}

    await eventually(batches)
    batch = next(each for each in receiver.spans if each.name == "send batch")
    await eventually(lambda: set(batch.links) <= {(each.trace, each.id) for each in receiver.spans})
    parts = [each for each in receiver.spans if (each.trace, each.id) in batch.links]

    assert len(parts) >= 2
    assert all((batch.trace, batch.id) in each.links for each in parts)


async def place(shop: Shop, traceparent: str) -> str:
    order = {
        "customer_id": CUSTOMER,
        "currency": "EUR",
        "items": [{"sku": "TEA", "quantity": 1, "unit_price": 590}],
        "payment_method": VISA,
    }
    answer = await shop.raw("POST", "order", "/orders", json=order, headers={"traceparent": traceparent})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def is_whole(spans: Sequence[SpanSeen]) -> bool:
    """The outcome has come to the customer, and the order's end into its topic."""
    told = [(each.service, each.name) for each in spans]
    readers = {("notification", "process inventory-status"), ("order", "process payment-status")}
    return readers <= set(told) and told.count(("order", "send order-events")) == 2


def parents_are_there(spans: Sequence[SpanSeen]) -> bool:
    known = {each.id for each in spans} | {CALLER}
    orphans = [each for each in spans if each.parent not in known]
    assert orphans == []
    assert len({each.id for each in spans}) == len(spans)
    return True


def one(spans: Sequence[SpanSeen], name: str) -> SpanSeen:
    (found,) = (each for each in spans if each.name == name)
    return found


def readers_of(spans: Sequence[SpanSeen], topic: str) -> set[str]:
    """Who has waited for the topic's events, and has read them."""
    waited = {each.service for each in spans if each.name == f"wait in {topic}"}
    assert waited == {each.service for each in spans if each.name == f"process {topic}"}
    return waited


def moves(span: SpanSeen) -> bool:
    return span.name.startswith(("send ", "process "))


def of_the_catalogue(span: SpanSeen) -> str:
    """The name in the catalogue of which the span's is made."""
    if span.kind == "server":
        return "{} {}"
    if span.name.endswith((" batch", " outbox")):
        return span.name
    return f"{span.name.rpartition(' ')[0]} {{}}"
