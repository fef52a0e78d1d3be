"""What the audit says of how an order went through inboxes and outboxes, and of the numbers of records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest

from orderflow.audit.books import (
    InboxRow,
    Listener,
    OrderBooks,
    OrderRow,
    OutboxRow,
    ParkedRow,
    Passage,
    ReservationRow,
)
from orderflow.audit.collect import ALWAYS, Ledgers, as_received, listeners_of, publishers
from orderflow.audit.findings import Finding, Kind, grouped
from orderflow.audit.orders import check_order
from orderflow.audit.topics import GENERATION, Sequences
from orderflow.core.messages import Catalogue
from orderflow.core.service import Decision, Handler, Service, Subscription
from orderflow.events.inventory import StockReserved
from orderflow.events.order import OrderPlaced
from orderflow.events.payment import RefundFailed
from orderflow.registry import service_of
from tests.support.decisions import id_of

HEARD = InboxRow("inventory", "inventory", "orderflow.PaymentSucceeded", "e-1", "done")
SOURCE = "/orderflow/inventory"
SAID = OutboxRow("inventory", SOURCE, "inventory-status", "StockReserved", 1, "e-2", is_sent=True)
NOTICE = OutboxRow("inventory", f"{SOURCE}/flow", "flow-status", "Dead", 1, "e-4", is_sent=True)
LINES = (("mug", 2),)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER = NOON - timedelta(hours=1)


def reserved(
    inbox: tuple[InboxRow, ...] = (HEARD,),
    outbox: tuple[OutboxRow, ...] = (SAID,),
    emitted: int = 1,
    ledgers: frozenset[str] = frozenset({"inventory"}),
    notices: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> OrderBooks:
    """An order of which inventory alone is looked at."""
    return OrderBooks(
        order_id="o",
        reservations=(ReservationRow("RESERVED", LINES),),
        movements=LINES,
        passage=Passage(inbox, outbox, {("inventory", SOURCE): emitted, **notices}, ledgers),
    )


def kinds(books: OrderBooks) -> list[Kind]:
    return [finding.kind for finding in check_order(books, at_rest=False)]


def test_an_effect_with_its_inbox_row_and_its_event_is_in_order() -> None:
    assert kinds(reserved()) == []


@pytest.mark.parametrize(
    ("books", "kind"),
    [
        (reserved(inbox=()), Kind.EFFECT_WITHOUT_INBOX_ROW),
        (reserved(inbox=(replace(HEARD, state="parked"),)), Kind.EFFECT_WITHOUT_INBOX_ROW),
        (replace(reserved(outbox=()), reservations=(), movements=()), Kind.INBOX_ROW_WITHOUT_EFFECT),
        (reserved(inbox=(HEARD, replace(HEARD, identity="x", state="dead"))), Kind.PARKED_EVENT_MISSING),
        (reserved(outbox=()), Kind.EVENT_NEVER_SENT),
        (reserved(outbox=(replace(SAID, event="StockRejected"),)), Kind.EVENT_NEVER_SENT),
        (reserved(outbox=(replace(SAID, topic="flow-status"),)), Kind.EVENT_NEVER_SENT),
        (reserved(emitted=2), Kind.SEQUENCE_GAP),
        (reserved(outbox=(SAID, replace(SAID, event_id="e-3"))), Kind.SEQUENCE_TWICE),
        (reserved(emitted=0), Kind.SEQUENCE_TWICE),
        (reserved(notices={("inventory", NOTICE.source): 1}), Kind.SEQUENCE_GAP),
        (reserved(outbox=(SAID, NOTICE)), Kind.SEQUENCE_TWICE),
    ],
)
def test_what_is_not_as_it_must_be_is_of_a_kind(books: OrderBooks, kind: Kind) -> None:
    assert kind in kinds(books)


def test_notices_of_what_is_stuck_have_numbers_of_their_own() -> None:
    assert kinds(reserved(outbox=(SAID, NOTICE), notices={("inventory", NOTICE.source): 1})) == []


def test_what_the_outbox_has_forgotten_is_not_missed() -> None:
    assert kinds(reserved(outbox=(), ledgers=frozenset())) == []


def test_an_event_published_again_has_its_number_once() -> None:
    assert kinds(reserved(outbox=(SAID, SAID))) == []


LISTENER = Listener("shipping", "shipping", frozenset({"orderflow.StockReserved"}), frozenset({"inventory-status"}))
RECEIVED = InboxRow("shipping", "shipping", "orderflow.StockReserved", SAID.event_id, "done")
SHIPPED = OutboxRow(
    "shipping", "/orderflow/shipping", "shipping-status", "shipping.OrderShipped", 1, "e-5", True, cause=SAID.event_id
)
LETTER = replace(SAID, service="shipping", source=SOURCE, topic="inventory-status.DLT", cause="e-1")


def listened(*inbox: InboxRow, outbox: tuple[OutboxRow, ...] = (), parked: tuple[ParkedRow, ...] = ()) -> OrderBooks:
    """The same order, and what a service outside of the saga had of it."""
    books = reserved((HEARD, *inbox), (SAID, *outbox))
    assert books.passage is not None
    return replace(books, parked=parked, passage=replace(books.passage, listeners=(LISTENER,)))


def of_shipping(books: OrderBooks, *, at_rest: bool) -> list[Kind]:
    return [each.kind for each in check_order(books, at_rest=at_rest) if each.where == "shipping"]


@pytest.mark.parametrize(
    "row", [RECEIVED, replace(RECEIVED, state="discarded"), replace(RECEIVED, event_id="edited")]
)
def test_what_a_service_outside_of_the_saga_has_received_is_in_order_whatever_became_of_it(row: InboxRow) -> None:
    assert of_shipping(listened(row, outbox=(SHIPPED,)), at_rest=True) == []


def test_what_it_never_received_is_lost_once_nothing_is_under_way() -> None:
    assert of_shipping(listened(), at_rest=False) == []
    assert of_shipping(listened(outbox=(LETTER,)), at_rest=True) == [Kind.EVENT_NEVER_RECEIVED]
    elsewhere = replace(RECEIVED, service="returns", consumer="returns")
    assert of_shipping(listened(elsewhere), at_rest=True) == [Kind.EVENT_NEVER_RECEIVED]


def test_what_it_has_said_because_of_an_event_was_received_before_at_every_moment() -> None:
    for at_rest in (False, True):
        assert of_shipping(listened(outbox=(SHIPPED,)), at_rest=at_rest) == [Kind.EFFECT_WITHOUT_INBOX_ROW]


@pytest.mark.parametrize(("service", "halts"), [("shipping", False), ("notification", True)])
def test_a_dead_letter_outside_of_the_saga_excuses_nothing_of_the_order(service: str, halts: bool) -> None:
    dead = ParkedRow(service, service, "orderflow.StockReserved.v1", "dead", 6)
    books = listened(parked=(dead,))
    assert (books.is_stuck, books.is_halted) == (True, halts)
    assert (Kind.ORDER_UNKNOWN in {each.kind for each in check_order(books, at_rest=True)}) is not halts


@pytest.mark.parametrize(("topic", "is_told"), [("flow-status", False), ("inventory-status", True)])
def test_who_fails_over_a_notice_of_what_is_stuck_need_not_show_it(topic: str, is_told: bool) -> None:
    dead = ParkedRow("shipping", "shipping", "orderflow.Dead.v1", "dead", 6, topic=topic)
    order = OrderRow(status="PENDING", version=1, event="OrderPlaced", currency="EUR", total=1, lines=())
    books = OrderBooks(order_id="o", order=order, parked=(dead,))
    assert (Kind.STUCK_NOT_SHOWN in {each.kind for each in check_order(books, at_rest=True)}) is is_told


def test_of_keys_that_are_no_orders_only_what_was_never_purged_is_compared() -> None:
    """They do not tell when they were new."""
    first = id_of("first")
    kept = Ledgers({"shipping": ALWAYS, "inventory": first}, {LISTENER: first})
    assert kept.of(str(first)) == (frozenset({"shipping", "inventory"}), (LISTENER,))
    assert kept.of(str(ALWAYS)) == (frozenset({"shipping"}), ())
    assert kept.of("customer-1") == (frozenset({"shipping"}), ())


def test_a_service_outside_of_the_saga_listens_to_what_it_handles_and_a_key_sees_once() -> None:
    handled = (StockReserved, OrderPlaced, RefundFailed)
    line = Handler(touches=lambda _: (), decide=lambda *_: Decision())
    shipping = Service(
        name="shipping",
        catalogue=Catalogue(handled),
        subscriptions=(Subscription("shipping", ("inventory-status", "payment-status")),),
        publishes=(),
        handlers=dict.fromkeys(handled, line),
    )
    assert list(listeners_of(shipping)) == [LISTENER]
    assert publishers(LISTENER) == ["inventory"]
    assert list(listeners_of(service_of("notification"))) == []


def test_of_a_type_that_it_came_to_handle_late_only_what_was_written_since_is_missed() -> None:
    listener = replace(LISTENER, late=(("orderflow.StockReserved", NOON),))
    for since, found in ((EARLIER, []), (NOON, [Kind.EVENT_NEVER_RECEIVED])):
        books = listened()
        assert books.passage is not None
        passage = replace(books.passage, outbox=(replace(SAID, since=since),), listeners=(listener,))
        assert of_shipping(replace(books, passage=passage), at_rest=True) == found


@pytest.mark.parametrize(
    ("first", "types", "late"),
    [
        ({}, {"a", "b"}, ()),
        ({"a": EARLIER, "b": EARLIER}, {"a", "b"}, ()),
        ({"a": EARLIER, "b": NOON, "": NOON}, {"a", "b"}, (("b", NOON),)),
        ({"a": EARLIER}, {"a"}, ()),
        ({"": EARLIER, "a": NOON}, {"a"}, (("a", NOON),)),
        ({"": EARLIER}, set(), ()),
    ],
)
def test_what_a_consumer_has_had_from_its_beginning_it_has_always_handled(
    first: Mapping[str, datetime], types: set[str], late: tuple[tuple[str, datetime], ...]
) -> None:
    listener = as_received(Listener("shipping", "shipping", frozenset({"a", "b"})), first)
    assert listener == replace(listener, types=frozenset(types), late=late)
    assert hash(listener)


def test_a_number_after_a_higher_one_is_out_of_order_unless_it_was_there_before() -> None:
    sequences = Sequences()
    assert [sequences.later_than("k", number) for number in (1, 3, 1, 3, 2, 2, 4)] == [0, 0, 0, 0, 3, 0, 0]
    assert sequences.later_than("another", 1) == 0


def test_the_numbers_of_the_last_keys_are_remembered() -> None:
    sequences = Sequences()
    sequences.later_than("k", 2)
    for number in range(GENERATION):
        sequences.later_than(str(number), 1)
    assert sequences.later_than("k", 1) == 2


def test_what_is_to_be_typed_has_no_text_of_others_in_it() -> None:
    order_id = "01981c5e-7a40-7000-8000-0123456789ab"
    forged = Finding(Kind.RECORD_FORGED, "x; reboot", "a row", "none", "order-events/0@1")
    [hostile] = grouped([forged])
    [both] = grouped([forged, replace(forged, subject=order_id)])
    assert "orderflow order show ORDER" in hostile.remedy
    assert f"orderflow order show {order_id}" in both.remedy


def test_findings_are_told_by_kind_with_each_subject_once() -> None:
    findings = [
        Finding(Kind.DOUBLE_CHARGE, "b", "one", "two", "bank"),
        Finding(Kind.HISTORY_GAP, "a", "2", "3", "order"),
        Finding(Kind.HISTORY_GAP, "a", "4", "5", "order"),
    ]
    first, second = grouped(findings)
    assert (first.kind, first.subjects, len(first.findings)) == (Kind.HISTORY_GAP, ("a",), 2)
    assert (second.kind, second.where, second.since) == (Kind.DOUBLE_CHARGE, ("bank",), None)
