"""The order's decisions, each and all."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from orderflow.events.base import OrderEvent
from orderflow.events.order import OrderCompleted, OrderFailed, OrderPlaced
from orderflow.messaging.decision import Decision, RefusedError
from orderflow.messaging.machine import IllegalTransitionError
from orderflow.order.messages import KeyReused, Placed
from orderflow.order.model import UnknownOrderError
from orderflow.order.rows import EarlyFact, IdempotencyKey, Order, Refund, Status, Transition
from orderflow.order.service import SERVICE
from tests.support.decisions import World, id_of
from tests.unit.order.examples import (
    EVENTS,
    FAILED,
    ORDER_ID,
    REFUNDED,
    REJECTED,
    RESERVED,
    SUCCEEDED,
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
    assert (placed.status, placed.version, placed.total) == (Status.PENDING, 1, 2 * 1250)
    [event] = decision.events
    assert isinstance(event, OrderPlaced)
    assert (event.total, event.items, event.payment_method) == (2500, placed.items, "pm_card_visa")
    answer = decision.answer
    assert isinstance(answer, Placed)
    assert not answer.replayed
    body = msgspec.json.decode(answer.body)
    assert (body["id"], body["status"], body["total"]) == (str(ORDER_ID), "PENDING", 2500)
    assert "created_at" not in body


def test_a_known_key_with_the_same_content_gives_the_first_answer_again() -> None:
    world = World(SERVICE)
    first = world.take(place("k", "f")).answer
    again = world.take(place("k", "f", name="another")).answer
    assert isinstance(first, Placed)
    assert again == Placed(first.order_id, first.body, replayed=True)
    assert len([row for row in world.rows.values() if isinstance(row, Order)]) == 1


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


def test_without_a_key_none_is_kept() -> None:
    world = World(SERVICE)
    world.take(place())
    assert not [row for row in world.rows.values() if isinstance(row, IdempotencyKey)]


LEGAL: dict[tuple[Status, str], tuple[Status, Refund]] = {
    (Status.PENDING, "PaymentSucceeded"): (Status.PAID, Refund.NONE),
    (Status.PENDING, "PaymentFailed"): (Status.FAILED, Refund.NONE),
    (Status.PENDING, "PaymentRefunded"): (Status.PENDING, Refund.DONE),
    (Status.PENDING, "StockReserved"): (Status.PENDING, Refund.NONE),
    (Status.PENDING, "StockRejected"): (Status.PENDING, Refund.NONE),
    (Status.PAID, "StockReserved"): (Status.COMPLETED, Refund.NONE),
    (Status.PAID, "StockRejected"): (Status.FAILED, Refund.DUE),
    (Status.PAID, "PaymentRefunded"): (Status.PAID, Refund.DONE),
    (Status.FAILED, "PaymentRefunded"): (Status.FAILED, Refund.DONE),
}


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_in_every_state_does_what_the_table_says(status: Status, event: OrderEvent) -> None:
    world = World(SERVICE, order(status))
    expected = LEGAL.get((status, type(event).__name__))
    if expected is None:
        with pytest.raises(IllegalTransitionError):
            world.take(event)
        return
    decision = world.take(event)
    after = the_order(world)
    assert (after.status, after.refund) == expected
    moved = after.status is not status
    assert after.version == order(status).version + moved
    assert len(decision.facts) == moved
    ended = after.status in (Status.COMPLETED, Status.FAILED) and moved
    assert [type(each) for each in decision.events] == (
        [] if not ended else [OrderCompleted if after.status is Status.COMPLETED else OrderFailed]
    )


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_about_an_order_that_is_not_there_raises(event: OrderEvent) -> None:
    with pytest.raises(UnknownOrderError):
        World(SERVICE).take(event)


def test_a_transition_says_what_caused_it() -> None:
    world = World(SERVICE, order())
    [step] = world.take(SUCCEEDED, id_of("cause")).facts
    assert step == Transition(
        order_id=ORDER_ID,
        version=2,
        from_status=Status.PENDING,
        event="PaymentSucceeded",
        to_status=Status.PAID,
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
        (Status.PAID, 2),
        (Status.COMPLETED, 3),
    ]
    assert [fact.cause for fact in decision.facts if isinstance(fact, Transition)] == [
        id_of("paid"),
        id_of("reserved"),
    ]
    assert [type(event) for event in decision.events] == [OrderCompleted]
    assert the_order(world).early is None


SAGAS = [
    ((SUCCEEDED,), (RESERVED,), Status.COMPLETED, Refund.NONE, None),
    ((SUCCEEDED, REFUNDED), (REJECTED,), Status.FAILED, Refund.DONE, "out_of_stock"),
    ((FAILED,), (), Status.FAILED, Refund.NONE, "card_declined"),
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
    status: Status,
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
        steps = [fact for decision in decisions for fact in decision.facts]
        histories.add(tuple((step.version, step.to_status) for step in steps if isinstance(step, Transition)))
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
