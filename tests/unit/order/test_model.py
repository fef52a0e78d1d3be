"""The order's decisions, each and all."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from orderflow.core.dead_letters import Reopened
from orderflow.core.service import Decision, IllegalTransitionError, Ref, RefusedError
from orderflow.events.base import DisagreementError, OrderEvent
from orderflow.events.inventory import MissingLine, ReservedLine
from orderflow.events.order import OrderCompleted, OrderFailed, OrderPlaced
from orderflow.services.order.messages import KeyReused, Placed, PlaceOrder
from orderflow.services.order.model import (
    MACHINE,
    EarlyFact,
    IdempotencyKey,
    Order,
    OrderStatus,
    Refund,
    RefundStep,
    Transition,
    UnknownOrderError,
    order_of,
)
from orderflow.services.order.service import SERVICE
from tests.support.decisions import World, id_of
from tests.unit.order.examples import (
    EVENTS,
    FAILED,
    ITEMS,
    ORDER_ID,
    REFUNDED,
    REFUSED,
    REJECTED,
    RESERVED,
    SUCCEEDED,
    VOIDED,
    order,
    place,
)


def the_order(world: World) -> Order:
    [found] = [row for row in world.rows.values() if isinstance(row, Order)]
    return found


def test_placing_makes_a_pending_order_with_the_total_computed_here() -> None:
    world = World(SERVICE)
    decision = world.take(place())
    placed = the_order(world)
    assert (placed.status, placed.version, placed.total) == (OrderStatus.PENDING, 1, 2 * 1250)
    [event] = decision.events
    assert isinstance(event, OrderPlaced)
    assert (event.total, event.items, event.payment_method) == (2500, placed.items, "pm_card_visa")
    answer = decision.answer
    assert isinstance(answer, Placed)
    assert not answer.replayed
    body = msgspec.json.decode(answer.response)
    assert (body["id"], body["status"], body["total"]) == (str(ORDER_ID), "PENDING", 2500)
    assert "created_at" not in body


def test_a_known_key_with_the_same_content_gives_the_first_answer_again() -> None:
    world = World(SERVICE)
    first = world.take(place("k", "f")).answer
    again = world.take(place("k", "f", name="another")).answer
    assert isinstance(first, Placed)
    assert again == Placed(first.order_id, first.response, replayed=True)
    assert len([row for row in world.rows.values() if isinstance(row, Order)]) == 1


def test_a_key_that_an_earlier_release_has_kept_is_known_by_the_fingerprint_of_that_time() -> None:
    world = World(SERVICE)
    first = world.take(place("k", "former")).answer
    again = world.take(msgspec.structs.replace(place("k", "f", name="another"), former_fingerprint="former")).answer
    assert isinstance(first, Placed)
    assert again == Placed(first.order_id, first.response, replayed=True)


def test_an_order_keeps_which_shop_has_placed_it() -> None:
    world = World(SERVICE)
    world.take(msgspec.structs.replace(place(), shop="acme"))
    assert the_order(world).shop == "acme"


def test_a_known_key_with_another_content_is_refused_and_changes_nothing() -> None:
    world = World(SERVICE)
    world.take(place("k", "f"))
    before = dict(world.rows)
    with pytest.raises(RefusedError) as refused:
        world.take(place("k", "other", name="another"))
    assert refused.value.answer == KeyReused("k")
    assert world.rows == before


def test_a_replay_writes_nothing() -> None:
    world = World(SERVICE)
    world.take(place("k", "f"))
    decision = world.decide(place("k", "f", name="another"))
    assert decision == Decision(answer=decision.answer)


def test_an_order_with_a_key_is_published_like_any_other_and_keeps_its_answer() -> None:
    decision, without = World(SERVICE).take(place("k", "f")), World(SERVICE).take(place())
    assert decision.events == without.events != ()
    [kept] = [row for row in decision.rows if isinstance(row, IdempotencyKey)]
    answer = decision.answer
    assert isinstance(answer, Placed)
    assert kept == IdempotencyKey(idempotency_key="k", fingerprint="f", order_id=ORDER_ID, response=answer.response)


def test_who_asks_again_after_a_release_that_answers_otherwise_gets_the_first_answer() -> None:
    world = World(SERVICE)
    world.take(msgspec.structs.replace(place("k", "f"), response='{"id": "as it was"}'))
    later = msgspec.structs.replace(place("k", "f", name="another"), response='{"id": "as it is", "more": 1}')
    answer = world.take(later).answer
    assert answer == Placed(ORDER_ID, '{"id": "as it was"}', replayed=True)


def test_without_a_key_none_is_kept() -> None:
    world = World(SERVICE)
    world.take(place())
    assert not [row for row in world.rows.values() if isinstance(row, IdempotencyKey)]


def test_a_message_touches_the_rows_that_it_names_and_no_other() -> None:
    touches = {kind: handler.touches for kind, handler in SERVICE.handlers.items()}
    nobodys = Reopened(subject_key="stock/TEA", consumer="inventory", event_id="e", event_type="t")
    assert list(touches[PlaceOrder](place())) == []
    assert list(touches[PlaceOrder](place("k", "f"))) == [Ref(IdempotencyKey, "k")]
    assert list(touches[Reopened](nobodys)) == []
    assert list(order_of("stock/TEA")) == []


def test_a_step_of_an_order_is_named_by_its_version_and_one_of_its_refund_by_its_cause() -> None:
    [step] = World(SERVICE, order()).decide(SUCCEEDED).facts
    [refund] = World(SERVICE, order(OrderStatus.PAID)).decide(REFUNDED).facts
    assert (step.id, refund.id) == ((ORDER_ID, 2), (ORDER_ID, id_of("PaymentRefunded")))


@pytest.mark.parametrize("change", [{"customer_id": "d"}, {"currency": "USD"}, {"amount": 1}])
def test_a_refusal_that_comes_after_the_refund_must_be_of_the_same_order_too(change: dict[str, Any]) -> None:
    world = World(SERVICE, order(OrderStatus.FAILED, Refund.DONE))
    assert world.decide(REFUSED) == Decision()
    with pytest.raises(DisagreementError):
        world.decide(msgspec.structs.replace(REFUSED, **change))


LEGAL: dict[tuple[OrderStatus, str], tuple[OrderStatus, Refund]] = {
    (OrderStatus.PENDING, "PaymentSucceeded"): (OrderStatus.PAID, Refund.NONE),
    (OrderStatus.PENDING, "PaymentFailed"): (OrderStatus.FAILED, Refund.NONE),
    (OrderStatus.PENDING, "PaymentRefunded"): (OrderStatus.PENDING, Refund.DONE),
    (OrderStatus.PENDING, "RefundFailed"): (OrderStatus.PENDING, Refund.REFUSED),
    (OrderStatus.PENDING, "PaymentVoided"): (OrderStatus.PENDING, Refund.VOID),
    (OrderStatus.PENDING, "StockReserved"): (OrderStatus.PENDING, Refund.NONE),
    (OrderStatus.PENDING, "StockRejected"): (OrderStatus.PENDING, Refund.NONE),
    (OrderStatus.PAID, "StockReserved"): (OrderStatus.COMPLETED, Refund.NONE),
    (OrderStatus.PAID, "StockRejected"): (OrderStatus.FAILED, Refund.DUE),
    (OrderStatus.PAID, "PaymentRefunded"): (OrderStatus.PAID, Refund.DONE),
    (OrderStatus.PAID, "RefundFailed"): (OrderStatus.PAID, Refund.REFUSED),
    (OrderStatus.PAID, "PaymentVoided"): (OrderStatus.PAID, Refund.VOID),
    (OrderStatus.FAILED, "PaymentRefunded"): (OrderStatus.FAILED, Refund.DONE),
    (OrderStatus.FAILED, "RefundFailed"): (OrderStatus.FAILED, Refund.REFUSED),
    (OrderStatus.FAILED, "PaymentVoided"): (OrderStatus.FAILED, Refund.VOID),
}


@pytest.mark.parametrize("status", list(OrderStatus))
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_in_every_state_does_what_the_table_says(status: OrderStatus, event: OrderEvent) -> None:
    world = World(SERVICE, order(status))
    expected = LEGAL.get((status, type(event).__name__))
    if expected is None:
        with pytest.raises(IllegalTransitionError, match=rf"^orders: {type(event).__name__} cannot happen in state "):
            world.take(event)
        return
    decision = world.take(event)
    after = the_order(world)
    assert (after.status, after.refund) == expected
    moved = after.status is not status
    assert after.version == order(status).version + moved
    assert after.event == (type(event).__name__ if moved else order(status).event)
    assert sum(isinstance(fact, Transition) for fact in decision.facts) == moved
    refunds = [fact.refund for fact in decision.facts if isinstance(fact, RefundStep)]
    assert refunds == ([after.refund] if after.refund is not order(status).refund else [])
    ended = after.status in (OrderStatus.COMPLETED, OrderStatus.FAILED) and moved
    assert [type(each) for each in decision.events] == (
        [] if not ended else [OrderCompleted if after.status is OrderStatus.COMPLETED else OrderFailed]
    )


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_about_an_order_that_is_not_there_raises(event: OrderEvent) -> None:
    with pytest.raises(UnknownOrderError):
        World(SERVICE).take(event)


@pytest.mark.parametrize(
    ("status", "refund", "event", "state"),
    [
        (OrderStatus.PENDING, Refund.DONE, FAILED, "PENDING (after a payment)"),
        (OrderStatus.PENDING, Refund.DONE, RESERVED, "PENDING (refund done)"),
        (OrderStatus.COMPLETED, Refund.NONE, REFUNDED, "COMPLETED (refund none)"),
    ],
)
def test_what_cannot_happen_is_told_with_the_state_that_forbids_it(
    status: OrderStatus, refund: Refund, event: OrderEvent, state: str
) -> None:
    with pytest.raises(IllegalTransitionError) as illegal:
        World(SERVICE, order(status, refund)).take(event)
    assert (illegal.value.machine, illegal.value.state, illegal.value.event) == (
        "orders",
        state,
        type(event).__name__,
    )


def test_the_table_is_of_the_rows_that_it_rules_and_starts_where_they_do() -> None:
    first = the_order(placed_world())
    assert first == order()
    assert (MACHINE.name, MACHINE.initial, MACHINE.created_by) == (first.TABLE, first.status, first.event)


def placed_world() -> World:
    world = World(SERVICE)
    world.take(place())
    return world


def test_how_an_order_ended_is_told_with_all_that_a_reader_needs() -> None:
    completed = World(SERVICE, order(OrderStatus.PAID)).take(RESERVED).events
    assert completed == (OrderCompleted(order_id=ORDER_ID, customer_id="c", currency="EUR", total=2500),)
    for status, event, reason in (
        (OrderStatus.PENDING, FAILED, "card_declined"),
        (OrderStatus.PAID, REJECTED, "out_of_stock"),
    ):
        failed = World(SERVICE, order(status)).take(event).events
        assert failed == (OrderFailed(order_id=ORDER_ID, customer_id="c", reason=reason),)


@pytest.mark.parametrize(("event", "refund"), [(REFUNDED, Refund.DONE), (REFUSED, Refund.REFUSED)])
def test_a_refund_may_be_heard_of_after_an_early_rejection_and_before_the_payment(
    event: OrderEvent, refund: Refund
) -> None:
    world = World(SERVICE, order())
    for each in (REJECTED, event, SUCCEEDED):
        world.take(each)
    assert (the_order(world).status, the_order(world).refund) == (OrderStatus.FAILED, refund)


def test_a_transition_says_what_caused_it() -> None:
    world = World(SERVICE, order())
    [step] = world.take(SUCCEEDED, id_of("cause")).facts
    assert step == Transition(
        order_id=ORDER_ID,
        version=2,
        from_status=OrderStatus.PENDING,
        event="PaymentSucceeded",
        to_status=OrderStatus.PAID,
        cause=id_of("cause"),
    )


def test_stock_reserved_that_came_early_is_used_when_its_turn_comes() -> None:
    world = World(SERVICE, order())
    kept = world.take(RESERVED, id_of("reserved"))
    assert not kept.events
    assert not kept.facts
    assert the_order(world).early == EarlyFact(event="StockReserved", event_id=id_of("reserved"))
    decision = world.take(SUCCEEDED, id_of("paid"))
    assert [(row.status, row.version) for row in decision.rows if isinstance(row, Order)] == [
        (OrderStatus.PAID, 2),
        (OrderStatus.COMPLETED, 3),
    ]
    assert [fact.cause for fact in decision.facts if isinstance(fact, Transition)] == [
        id_of("paid"),
        id_of("reserved"),
    ]
    assert [type(event) for event in decision.events] == [OrderCompleted]
    assert the_order(world).early is None


SAGAS = [
    ((SUCCEEDED,), (RESERVED,), OrderStatus.COMPLETED, Refund.NONE, None),
    ((SUCCEEDED, REFUNDED), (REJECTED,), OrderStatus.FAILED, Refund.DONE, "out_of_stock"),
    ((SUCCEEDED, REFUSED), (REJECTED,), OrderStatus.FAILED, Refund.REFUSED, "out_of_stock"),
    ((SUCCEEDED, REFUSED, REFUNDED), (REJECTED,), OrderStatus.FAILED, Refund.DONE, "out_of_stock"),
    ((SUCCEEDED, REFUSED, VOIDED), (REJECTED,), OrderStatus.FAILED, Refund.VOID, "out_of_stock"),
    ((FAILED,), (), OrderStatus.FAILED, Refund.NONE, "card_declined"),
]


def interleavings(left: tuple[OrderEvent, ...], right: tuple[OrderEvent, ...]) -> list[list[OrderEvent]]:
    """All ways in which two topics, each in order, can arrive."""
    total = len(left) + len(right)
    found: list[list[OrderEvent]] = []
    for places in itertools.combinations(range(total), len(left)):
        first, second = iter(left), iter(right)
        found.append([next(first) if place in places else next(second) for place in range(total)])
    return found


@pytest.mark.parametrize(("payments", "inventory", "status", "refund", "reason"), SAGAS)
def test_however_two_topics_interleave_the_end_is_the_same(
    payments: tuple[OrderEvent, ...],
    inventory: tuple[OrderEvent, ...],
    status: OrderStatus,
    refund: Refund,
    reason: str | None,
) -> None:
    histories = set()
    for arrival in interleavings(payments, inventory):
        world = World(SERVICE, order())
        decisions = [world.take(event) for event in arrival]
        ended = the_order(world)
        assert (ended.status, ended.refund, ended.reason) == (status, refund, reason)
        assert ended.early is None
        assert sum(len(decision.events) for decision in decisions) == 1
        steps = [fact for each in decisions for fact in each.facts if isinstance(fact, Transition)]
        histories.add(tuple((step.version, step.to_status) for step in steps))
        assert ended.version == len(steps) + 1
    assert len(histories) == 1


@pytest.mark.parametrize(
    "contradiction",
    [
        (RESERVED, FAILED),
        (REJECTED, FAILED),
        (REFUNDED, FAILED),
        (REFUNDED, RESERVED),
        (RESERVED, REFUNDED),
        (RESERVED, REJECTED),
        (REFUNDED, REFUNDED),
        (SUCCEEDED, REFUNDED, RESERVED),
        (SUCCEEDED, REJECTED, REFUNDED, REFUNDED),
        (FAILED, REFUNDED),
        (FAILED, REFUSED),
        (REFUSED, RESERVED),
        (SUCCEEDED, REJECTED, REFUSED, VOIDED, REFUNDED),
    ],
    ids=lambda events: "-".join(type(event).__name__ for event in events),
)
def test_what_cannot_be_true_together_raises_at_the_last(contradiction: tuple[OrderEvent, ...]) -> None:
    world = World(SERVICE, order())
    for event in contradiction[:-1]:
        world.take(event)
    before = dict(world.rows)
    with pytest.raises(IllegalTransitionError):
        world.take(contradiction[-1])
    assert world.rows == before


def told_otherwise(event: OrderEvent, **changes: Any) -> OrderEvent:
    return msgspec.structs.replace(event, **changes)


def lines(*pairs: tuple[str, int]) -> tuple[ReservedLine, ...]:
    return tuple(ReservedLine(sku=sku, quantity=quantity) for sku, quantity in pairs)


ONE_CENT = (msgspec.structs.replace(ITEMS[0], quantity=1, unit_price=1), ITEMS[1])
DISAGREEING = [
    (SUCCEEDED, {"total": 1, "items": ONE_CENT}, "total is 1, and here it is 2500"),
    (SUCCEEDED, {"currency": "JPY"}, 'currency is "JPY", and here it is "EUR"'),
    (SUCCEEDED, {"items": ITEMS[:1]}, '"SKU-A","quantity":2,"unit_price":1250}], and here it is [{'),
    (FAILED, {"total": 1}, "total is 1, and here it is 2500"),
    (FAILED, {"currency": "JPY"}, 'currency is "JPY", and here it is "EUR"'),
    (REFUNDED, {"amount": 1}, "amount is 1, and here it is 2500"),
    (REFUNDED, {"currency": "JPY"}, 'currency is "JPY", and here it is "EUR"'),
    (REFUSED, {"amount": 1}, "amount is 1, and here it is 2500"),
    (VOIDED, {"currency": "JPY"}, 'currency is "JPY", and here it is "EUR"'),
    (RESERVED, {"lines": lines(("SKU-A", 1), ("SKU-B", 1))}, 'lines is [["SKU-A",1],["SKU-B",1]], and here it is'),
    (RESERVED, {"lines": lines(("SKU-A", 2))}, 'lines is [["SKU-A",2]], and here it is [["SKU-A",2],["SKU-B",1]]'),
    (RESERVED, {"lines": lines(("SKU-A", 2), ("SKU-A", 2), ("SKU-B", 1))}, "lines is"),
    (
        REJECTED,
        {"missing": (MissingLine(sku="SKU-Z", requested=2, available=0),)},
        'missing is [["SKU-Z",2]], and here it is [["SKU-Z",0]]',
    ),
]


@pytest.mark.parametrize(("event", "changes", "words"), DISAGREEING, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("status", list(OrderStatus))
def test_what_does_not_agree_with_the_order_is_refused_with_both_values_in_every_state(
    status: OrderStatus, event: OrderEvent, changes: dict[str, Any], words: str
) -> None:
    world = World(SERVICE, order(status))
    with pytest.raises(DisagreementError) as refused:
        world.take(told_otherwise(event, **changes))
    assert words in str(refused.value)
    assert f"{type(event).__name__} does not agree with what is known of the order" in str(refused.value)
    assert the_order(world) == order(status)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_of_another_customer_is_refused(event: OrderEvent) -> None:
    with pytest.raises(DisagreementError, match='customer_id is "mallory", and here it is "c"'):
        World(SERVICE, order()).take(told_otherwise(event, customer_id="mallory"))


@pytest.mark.parametrize("outcome", [REFUNDED, VOIDED], ids=["refunded", "voided"])
def test_a_refusal_of_the_refund_that_is_heard_after_its_outcome_changes_nothing(outcome: OrderEvent) -> None:
    """Once partitions were added, an event can be read before an earlier one of its key."""
    world = World(SERVICE, order(OrderStatus.PAID))
    for event in (REJECTED, outcome):
        world.take(event)
    assert world.take(REFUSED) == Decision()


def test_a_late_refusal_of_another_amount_is_refused() -> None:
    world = World(SERVICE, order(OrderStatus.PAID))
    for event in (REJECTED, REFUNDED):
        world.take(event)
    with pytest.raises(DisagreementError, match="amount is 1, and here it is 2500"):
        world.take(told_otherwise(REFUSED, amount=1))


def test_every_step_of_a_refund_is_kept_with_its_cause_and_the_order_does_not_move() -> None:
    world = World(SERVICE, order(OrderStatus.PAID))
    arrivals = [(REJECTED, "rejected"), (REFUSED, "refused"), (REFUSED, "refused again"), (REFUNDED, "back")]
    steps = [
        fact
        for event, name in arrivals
        for fact in world.take(event, id_of(name)).facts
        if isinstance(fact, RefundStep)
    ]
    assert [(step.version, step.refund, step.event, step.cause, step.reason) for step in steps] == [
        (3, Refund.DUE, "StockRejected", id_of("rejected"), None),
        (3, Refund.REFUSED, "RefundFailed", id_of("refused"), "charge_missing"),
        (3, Refund.REFUSED, "RefundFailed", id_of("refused again"), "charge_missing"),
        (3, Refund.DONE, "PaymentRefunded", id_of("back"), None),
    ]
    assert len({step.id for step in steps}) == 4
    assert (the_order(world).status, the_order(world).version) == (OrderStatus.FAILED, 3)
