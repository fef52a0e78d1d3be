"""The events as they stand on the wire: other programs read them, so a change here is a new version."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from orderflow.core.messages import Catalogue, UndecodableError, wire_name
from orderflow.events.base import INVENTORY_STATUS, ORDER_EVENTS, PAYMENT_STATUS, TOPICS, OrderEvent
from orderflow.events.inventory import INVENTORY_EVENT_TYPES, MissingLine, ReservedLine, StockRejected, StockReserved
from orderflow.events.order import ORDER_EVENT_TYPES, Item, OrderCompleted, OrderFailed, OrderPlaced
from orderflow.events.payment import (
    PAYMENT_EVENT_TYPES,
    PaymentFailed,
    PaymentRefunded,
    PaymentSucceeded,
    PaymentVoided,
    RefundFailed,
)

ORDER_ID = UUID("01981c5e-7a40-7000-8000-0123456789ab")
ITEMS = (Item(sku="SKU-A", quantity=2, unit_price=1250), Item(sku="SKU-B", quantity=1, unit_price=0))
GOLDEN = Path(__file__).parent / "golden"
TYPES = (*ORDER_EVENT_TYPES, *PAYMENT_EVENT_TYPES, *INVENTORY_EVENT_TYPES)

EVENTS: tuple[OrderEvent, ...] = (
    OrderPlaced(
        order_id=ORDER_ID,
        customer_id="customer-42",
        currency="EUR",
        items=ITEMS,
        total=2500,
        payment_method="pm_card_visa",
    ),
    OrderCompleted(order_id=ORDER_ID, customer_id="customer-42", currency="EUR", total=2500),
    OrderFailed(order_id=ORDER_ID, customer_id="customer-42", reason="card_declined"),
    PaymentSucceeded(order_id=ORDER_ID, customer_id="customer-42", currency="EUR", items=ITEMS, total=2500),
    PaymentFailed(order_id=ORDER_ID, customer_id="customer-42", currency="EUR", total=2500, reason="card_declined"),
    PaymentRefunded(order_id=ORDER_ID, customer_id="customer-42", currency="EUR", amount=2500),
    RefundFailed(order_id=ORDER_ID, customer_id="customer-42", currency="EUR", amount=2500, reason="charge_missing"),
    PaymentVoided(order_id=ORDER_ID, customer_id="customer-42", currency="EUR", amount=2500),
    StockReserved(
        order_id=ORDER_ID,
        customer_id="customer-42",
        lines=(ReservedLine(sku="SKU-A", quantity=2), ReservedLine(sku="SKU-B", quantity=1)),
    ),
    StockRejected(
        order_id=ORDER_ID,
        customer_id="customer-42",
        missing=(MissingLine(sku="SKU-B", requested=1, available=0),),
    ),
)


def golden(event_type: type[OrderEvent]) -> bytes:
    return (GOLDEN / f"{wire_name(event_type)}.json").read_bytes()


def test_every_event_of_the_contract_is_pinned() -> None:
    assert [type(event) for event in EVENTS] == list(TYPES)
    assert {file.name for file in GOLDEN.iterdir()} == {f"{wire_name(each)}.json" for each in TYPES}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_written_as_it_always_was(event: OrderEvent) -> None:
    assert msgspec.json.format(msgspec.json.encode(event), indent=2) + b"\n" == golden(type(event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_what_was_written_is_read_as_the_same_event(event: OrderEvent) -> None:
    assert Catalogue(TYPES).decode(wire_name(type(event)), golden(type(event))) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_field_that_a_later_release_adds_is_passed_over(event: OrderEvent) -> None:
    later = golden(type(event)).replace(b"{", b'{"added_later": {"a": 1},', 1)
    assert Catalogue(TYPES).decode(wire_name(type(event)), later) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_happens_once_an_order_and_is_keyed_by_it(event: OrderEvent) -> None:
    assert event.ONCE is not isinstance(event, RefundFailed), "the bank can refuse once more what it is asked again"
    assert event.key == "01981c5e-7a40-7000-8000-0123456789ab"
    assert wire_name(type(event)) == f"orderflow.{type(event).__name__}.v1"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_no_time_is_in_a_payload(event: OrderEvent) -> None:
    names = set(msgspec.json.decode(golden(type(event))))
    assert not {name for name in names if name.endswith("_at") or name in ("time", "timestamp", "date")}


def test_each_family_has_its_topic() -> None:
    assert {each.TOPIC for each in ORDER_EVENT_TYPES} == {ORDER_EVENTS}
    assert {each.TOPIC for each in PAYMENT_EVENT_TYPES} == {PAYMENT_STATUS}
    assert {each.TOPIC for each in INVENTORY_EVENT_TYPES} == {INVENTORY_STATUS}
    assert TOPICS == ("order-events", "payment-status", "inventory-status", "flow-status")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"total": 2500', b'"total": -1'),
        (b'"total": 2500', b'"total": 9007199254740992'),
        (b'"total": 2500', b'"total": 25.5'),
        (b'"quantity": 2', b'"quantity": 0'),
        (b'"unit_price": 1250', b'"unit_price": -1'),
        (b'"EUR"', b'"EURO"'),
        (b'"EUR"', b'"XXX"'),
        (b'"total": 2500', b'"total": 1'),
        (b'"total": 2500', b'"total": 9000000000000'),
        (b'"total": 2500', b'"total": 0'),
        (b'"unit_price": 1250', b'"unit_price": 1000000001'),
        (b'"quantity": 2', b'"quantity": 10001'),
        (b'"SKU-B"', b'"SKU-A"'),
        (b'"SKU-B"', b'"a b"'),
        (b'"customer_id": "customer-42"', b'"customer_id": ""'),
        (b'"payment_method": "pm_card_visa"', b'"payment_method": ""'),
        (b'"customer_id": "customer-42",', b""),
        (b"01981c5e-7a40", b"not-a-uuid"),
    ],
)
def test_an_event_with_absurd_contents_cannot_be_read(old: bytes, new: bytes) -> None:
    broken = golden(OrderPlaced).replace(old, new)
    assert broken != golden(OrderPlaced)
    with pytest.raises(UndecodableError):
        Catalogue(TYPES).decode("orderflow.OrderPlaced.v1", broken)


@pytest.mark.parametrize("event_type", [OrderPlaced, PaymentSucceeded])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"total": 1}, "/total: it is 1, and the items add up to 2500"),
        ({"currency": "XXX"}, "/currency: 'XXX' is not a currency of ISO 4217 that can be paid in"),
        ({"items": []}, "Expected `array` of length >= 1"),
        ({"items": [{"sku": "A", "quantity": 1, "unit_price": 1}] * 2, "total": 2}, "/items/1/sku: 'A' stands in an"),
        (
            {"items": [{"sku": "A", "quantity": 1, "unit_price": 0}], "total": 1},
            "/total: it is 1, and the items add up to 0",
        ),
    ],
)
def test_an_order_that_no_shop_could_place_is_refused_in_words(
    event_type: type[OrderEvent], changes: dict[str, object], words: str
) -> None:
    told = {**msgspec.json.decode(golden(event_type)), **changes}
    with pytest.raises(UndecodableError) as refused:
        Catalogue(TYPES).decode(wire_name(event_type), msgspec.json.encode(told))
    assert words in str(refused.value)


def test_what_was_ordered_in_a_currency_that_was_withdrawn_since_is_still_read() -> None:
    for event_type in (OrderPlaced, PaymentSucceeded, PaymentFailed, PaymentRefunded, OrderCompleted):
        told = golden(event_type).replace(b'"EUR"', b'"BGN"')
        assert Catalogue(TYPES).decode(wire_name(event_type), told).currency == "BGN"  # type: ignore[attr-defined]


def test_what_is_free_is_not_missing() -> None:
    told = golden(StockRejected).replace(b'"available": 0', b'"available": 1')
    with pytest.raises(UndecodableError, match="1 are missing, and 1 are said to be free"):
        Catalogue(TYPES).decode("orderflow.StockRejected.v1", told)
