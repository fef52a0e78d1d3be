"""An operator's word for a charge: what the bank's answer would have done, and what the bank may still say."""

from __future__ import annotations

import pytest

from orderflow.events.payment import PaymentFailed, PaymentSucceeded
from orderflow.messaging.decision import RefusedError
from orderflow.messaging.message import Message
from orderflow.payment.messages import ChargeSettled
from orderflow.payment.model import ContradictionError, UnknownPaymentError
from orderflow.payment.rows import Payment, Status
from orderflow.payment.service import SERVICE
from tests.support.decisions import World
from tests.unit.payment.examples import (
    APPROVED,
    AS_CHARGED,
    AS_NOT_CHARGED,
    GIVEN_BACK,
    ITEMS,
    ORDER_ID,
    REFUSED,
    REJECTED,
    UNKNOWN,
    WAYS,
)

INTENT = f"charge:{ORDER_ID}"


def after(*messages: Message) -> World:
    world = World(SERVICE)
    for message in messages:
        world.take(message)
    return world


def payment(world: World) -> Payment:
    [found] = [row for row in world.rows.values() if isinstance(row, Payment)]
    return found


@pytest.mark.parametrize("status", [Status.CHARGING, Status.UNKNOWN])
def test_as_charged_tells_the_order_service_and_asks_the_bank_no_more(status: Status) -> None:
    world = after(*WAYS[status])
    decision = world.take(AS_CHARGED)
    [event] = decision.events
    assert event == PaymentSucceeded(order_id=ORDER_ID, customer_id="c", currency="EUR", items=ITEMS, total=2500)
    assert (decision.closes, decision.intents) == ((INTENT,), ())
    row = payment(world)
    assert (row.status, row.captured, row.event) == (Status.CAPTURED, 2500, "SettledAsCharged")
    assert decision.answer == ChargeSettled(
        order_id=ORDER_ID, status="CAPTURED", captured=2500, currency="EUR", changed=True
    )


@pytest.mark.parametrize("status", [Status.CHARGING, Status.UNKNOWN])
def test_as_not_charged_tells_the_order_service_and_asks_the_bank_no_more(status: Status) -> None:
    world = after(*WAYS[status])
    decision = world.take(AS_NOT_CHARGED)
    [event] = decision.events
    assert isinstance(event, PaymentFailed)
    assert event.reason == "settled_by_operator"
    assert (decision.closes, decision.intents) == ((INTENT,), ())
    row = payment(world)
    assert (row.status, row.captured, row.event) == (Status.DECLINED, 0, "SettledAsNotCharged")


@pytest.mark.parametrize("settlement", [AS_CHARGED, AS_NOT_CHARGED], ids=["charged", "not-charged"])
def test_said_twice_it_is_done_once(settlement: Message) -> None:
    world = after(*WAYS[Status.UNKNOWN], settlement)
    before = payment(world)
    again = world.take(settlement)
    assert payment(world) == before
    assert (again.events, again.rows, again.closes) == ((), (), ())
    assert isinstance(again.answer, ChargeSettled)
    assert not again.answer.changed


@pytest.mark.parametrize("status", [Status.CAPTURED, Status.DECLINED, Status.REFUND_DUE, Status.REFUNDED])
@pytest.mark.parametrize("settlement", [AS_CHARGED, AS_NOT_CHARGED], ids=["charged", "not-charged"])
def test_a_charge_that_is_not_open_is_not_settled(status: Status, settlement: Message) -> None:
    world = after(*WAYS[status])
    before = payment(world)
    with pytest.raises(RefusedError, match=f"is not open any more: its payment is {status}"):
        world.take(settlement)
    assert payment(world) == before


def test_one_settlement_is_not_turned_into_the_other() -> None:
    for first, second in ((AS_CHARGED, AS_NOT_CHARGED), (AS_NOT_CHARGED, AS_CHARGED)):
        with pytest.raises(RefusedError):
            after(*WAYS[Status.UNKNOWN], first, second)


def test_a_charge_that_nobody_knows_is_not_settled() -> None:
    with pytest.raises(UnknownPaymentError):
        after(AS_CHARGED)


@pytest.mark.parametrize(
    ("settlement", "late"),
    [(AS_CHARGED, APPROVED), (AS_CHARGED, UNKNOWN), (AS_NOT_CHARGED, REFUSED), (AS_NOT_CHARGED, UNKNOWN)],
)
def test_a_late_answer_that_agrees_changes_nothing(settlement: Message, late: Message) -> None:
    world = after(*WAYS[Status.UNKNOWN], settlement)
    before = payment(world)
    decision = world.take(late)
    assert payment(world) == before
    assert (decision.events, decision.intents) == ((), ())


@pytest.mark.parametrize(
    ("settlement", "late", "words"),
    [
        (AS_CHARGED, REFUSED, "charged as settled_by_operator, and declined"),
        (AS_NOT_CHARGED, APPROVED, "declined .settled_by_operator., and charged as ch_1"),
    ],
)
def test_a_late_answer_that_contradicts_is_not_taken(settlement: Message, late: Message, words: str) -> None:
    world = after(*WAYS[Status.CHARGING], settlement)
    before = payment(world)
    with pytest.raises(ContradictionError, match=words):
        world.take(late)
    assert payment(world) == before


def test_what_was_settled_as_charged_is_given_back_like_any_other_charge() -> None:
    world = after(*WAYS[Status.UNKNOWN], AS_CHARGED, REJECTED, APPROVED, GIVEN_BACK)
    assert (payment(world).status, payment(world).refunded) == (Status.REFUNDED, 2500)
