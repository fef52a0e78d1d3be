"""An operator's word for a charge or a refund: what the bank's answer would have done, and what it may still say."""

from __future__ import annotations

import pytest

from orderflow.core.messages import Message
from orderflow.core.service import RefusedError
from orderflow.events.payment import PaymentFailed, PaymentRefunded, PaymentSucceeded, PaymentVoided, RefundFailed
from orderflow.services.payment.messages import PaymentSettled, SettlePayment
from orderflow.services.payment.model import ContradictionError, Payment, PaymentStatus, UnknownPaymentError
from orderflow.services.payment.service import SERVICE
from tests.support.decisions import World
from tests.unit.payment.examples import (
    APPROVED,
    AS_CHARGED,
    AS_NOT_CHARGED,
    AS_REFUNDED,
    ASK_AGAIN,
    GIVEN_BACK,
    ITEMS,
    NOT_GIVEN_BACK,
    ORDER_ID,
    PLACED,
    REFUND_UNKNOWN,
    REFUSED,
    REJECTED,
    UNKNOWN,
    WAYS,
)

INTENT = f"charge:{ORDER_ID}"
REFUND_INTENT = f"refund:{ORDER_ID}"
SETTLEMENTS = (AS_CHARGED, AS_NOT_CHARGED, AS_REFUNDED, ASK_AGAIN)


def after(*messages: Message) -> World:
    world = World(SERVICE)
    for message in messages:
        world.take(message)
    return world


def payment(world: World) -> Payment:
    [found] = [row for row in world.rows.values() if isinstance(row, Payment)]
    return found


@pytest.mark.parametrize("status", [PaymentStatus.CHARGING, PaymentStatus.UNKNOWN])
def test_as_charged_tells_the_order_service_and_asks_the_bank_no_more(status: PaymentStatus) -> None:
    world = after(*WAYS[status])
    decision = world.take(AS_CHARGED)
    [event] = decision.events
    assert event == PaymentSucceeded(order_id=ORDER_ID, customer_id="c", currency="EUR", items=ITEMS, total=2500)
    assert (decision.closes, decision.intents) == ((INTENT,), ())
    row = payment(world)
    assert (row.status, row.captured, row.event) == (PaymentStatus.CAPTURED, 2500, "SettledAsCharged")
    assert decision.answer == PaymentSettled(
        order_id=ORDER_ID, status="CAPTURED", captured=2500, refunded=0, currency="EUR", changed=True
    )
    assert decision.result == "charged: CAPTURED"


@pytest.mark.parametrize("status", [PaymentStatus.CHARGING, PaymentStatus.UNKNOWN])
def test_as_not_charged_tells_the_order_service_and_asks_the_bank_no_more(status: PaymentStatus) -> None:
    world = after(*WAYS[status])
    decision = world.take(AS_NOT_CHARGED)
    [event] = decision.events
    assert event == PaymentFailed(
        order_id=ORDER_ID, customer_id="c", currency="EUR", total=2500, reason="settled_by_operator"
    )
    assert (decision.closes, decision.intents) == ((INTENT,), ())
    row = payment(world)
    assert (row.status, row.captured, row.event) == (PaymentStatus.DECLINED, 0, "SettledAsNotCharged")


@pytest.mark.parametrize(
    ("way", "settlement"),
    [
        (WAYS[PaymentStatus.UNKNOWN], AS_CHARGED),
        (WAYS[PaymentStatus.UNKNOWN], AS_NOT_CHARGED),
        (WAYS[PaymentStatus.REFUND_REFUSED], AS_REFUNDED),
        ((PLACED, UNKNOWN, AS_CHARGED, REJECTED, NOT_GIVEN_BACK), AS_NOT_CHARGED),
    ],
)
def test_said_twice_it_is_done_once(way: tuple[Message, ...], settlement: Message) -> None:
    world = after(*way, settlement)
    before = payment(world)
    again = world.take(settlement)
    assert payment(world) == before
    assert (again.events, again.rows, again.closes) == ((), (), ())
    assert isinstance(again.answer, PaymentSettled)
    assert not again.answer.changed
    assert again.result.endswith(f": {before.status} before")


OPEN = {
    (status, settlement.outcome)
    for statuses, settlements in (
        ((PaymentStatus.CHARGING, PaymentStatus.UNKNOWN), (AS_CHARGED, AS_NOT_CHARGED)),
        ((PaymentStatus.REFUND_DUE, PaymentStatus.REFUND_REFUSED), (AS_REFUNDED, ASK_AGAIN)),
    )
    for status in statuses
    for settlement in settlements
}


@pytest.mark.parametrize("status", list(PaymentStatus))
@pytest.mark.parametrize("settlement", SETTLEMENTS, ids=lambda each: each.outcome)
def test_what_is_not_open_is_not_settled(status: PaymentStatus, settlement: SettlePayment) -> None:
    world = after(*WAYS[status])
    before = payment(world)
    if (status, settlement.outcome) in OPEN:
        assert isinstance(world.take(settlement).answer, PaymentSettled)
        return
    what = "charge" if settlement in (AS_CHARGED, AS_NOT_CHARGED) else "refund"
    words = f"^the {what} of order {ORDER_ID} is not open: its payment is {status}$|^the bank has said"
    with pytest.raises(RefusedError, match=words):
        world.take(settlement)
    assert payment(world) == before


REFUSED_AFTER_A_WORD = (PLACED, UNKNOWN, AS_CHARGED, REJECTED, NOT_GIVEN_BACK)
"""The bank is away, an operator settles the charge as made, the stock is refused: the bank knows of no charge."""


def test_a_refused_refund_of_what_never_was_charged_is_settled_as_not_charged() -> None:
    world = after(*REFUSED_AFTER_A_WORD)
    decision = world.take(AS_NOT_CHARGED)
    [event] = decision.events
    assert event == PaymentVoided(order_id=ORDER_ID, customer_id="c", currency="EUR", amount=2500)
    assert (decision.closes, decision.intents) == ((REFUND_INTENT,), ())
    row = payment(world)
    assert (row.status, row.captured, row.refunded, row.refund_refusal) == (PaymentStatus.DECLINED, 0, 0, None)
    assert (row.charge_reference, row.reason) == (None, "settled_by_operator")


def test_a_refund_that_is_due_of_what_never_was_charged_is_settled_as_not_charged() -> None:
    world = after(*REFUSED_AFTER_A_WORD[:-1])
    assert [type(event) for event in world.take(AS_NOT_CHARGED).events] == [PaymentVoided]
    assert (payment(world).status, payment(world).event) == (PaymentStatus.DECLINED, "SettledAsNotCharged")


def test_what_the_bank_has_charged_is_not_settled_as_not_charged() -> None:
    world = after(*WAYS[PaymentStatus.REFUND_REFUSED])
    with pytest.raises(RefusedError, match=r"the bank has said that order .* was charged, as ch_1"):
        world.take(AS_NOT_CHARGED)


@pytest.mark.parametrize("status", [PaymentStatus.REFUND_DUE, PaymentStatus.REFUND_REFUSED])
def test_as_refunded_tells_the_order_service_and_asks_the_bank_no_more(status: PaymentStatus) -> None:
    world = after(*WAYS[status])
    decision = world.take(AS_REFUNDED)
    [event] = decision.events
    assert event == PaymentRefunded(order_id=ORDER_ID, customer_id="c", currency="EUR", amount=2500)
    assert (decision.closes, decision.intents) == ((REFUND_INTENT,), ())
    row = payment(world)
    assert (row.status, row.refunded, row.refund_reference) == (PaymentStatus.REFUNDED, 2500, "settled_by_operator")
    assert (row.event, row.refund_refusal) == ("SettledAsRefunded", None)
    assert decision.answer == PaymentSettled(
        order_id=ORDER_ID, status="REFUNDED", captured=2500, refunded=2500, currency="EUR", changed=True
    )


def test_a_refused_refund_can_be_asked_for_again_under_the_same_key_and_refused_again() -> None:
    world = after(*WAYS[PaymentStatus.REFUND_REFUSED])
    decision = world.take(ASK_AGAIN)
    assert [intent.key for intent in decision.intents] == [REFUND_INTENT]
    assert decision.events == ()
    row = payment(world)
    assert (row.status, row.event, row.refund_refusal) == (PaymentStatus.REFUND_DUE, "RefundAskedAgain", None)
    again = world.take(ASK_AGAIN)
    assert isinstance(again.answer, PaymentSettled)
    assert (again.intents, again.answer.changed) == ((), False)
    assert [type(event) for event in world.take(NOT_GIVEN_BACK).events] == [RefundFailed]
    assert payment(world).status is PaymentStatus.REFUND_REFUSED


def test_one_settlement_is_not_turned_into_the_other() -> None:
    for first, second in ((AS_CHARGED, AS_NOT_CHARGED), (AS_NOT_CHARGED, AS_CHARGED)):
        with pytest.raises(RefusedError):
            after(*WAYS[PaymentStatus.UNKNOWN], first, second)


def test_a_charge_that_nobody_knows_is_not_settled() -> None:
    with pytest.raises(UnknownPaymentError):
        after(AS_CHARGED)


@pytest.mark.parametrize(
    ("settlement", "late"),
    [(AS_CHARGED, APPROVED), (AS_CHARGED, UNKNOWN), (AS_NOT_CHARGED, REFUSED), (AS_NOT_CHARGED, UNKNOWN)],
)
def test_a_late_answer_that_agrees_changes_nothing(settlement: Message, late: Message) -> None:
    world = after(*WAYS[PaymentStatus.UNKNOWN], settlement)
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
    world = after(*WAYS[PaymentStatus.CHARGING], settlement)
    before = payment(world)
    with pytest.raises(ContradictionError, match=words):
        world.take(late)
    assert payment(world) == before


def test_what_was_settled_as_charged_is_given_back_like_any_other_charge() -> None:
    world = after(*WAYS[PaymentStatus.UNKNOWN], AS_CHARGED, REJECTED, APPROVED, GIVEN_BACK)
    assert (payment(world).status, payment(world).refunded) == (PaymentStatus.REFUNDED, 2500)


@pytest.mark.parametrize(
    "way", [(*WAYS[PaymentStatus.REFUND_DUE], AS_REFUNDED), (*REFUSED_AFTER_A_WORD, AS_NOT_CHARGED)]
)
@pytest.mark.parametrize("late", [NOT_GIVEN_BACK, REFUND_UNKNOWN])
def test_a_late_refusal_of_a_refund_that_is_settled_changes_nothing(way: tuple[Message, ...], late: Message) -> None:
    world = after(*way)
    before = payment(world)
    assert world.take(late).events == ()
    assert payment(world) == before


def test_a_late_approval_of_a_refund_that_is_settled_is_not_taken_for_the_customer_may_have_it_twice() -> None:
    world = after(*WAYS[PaymentStatus.REFUND_REFUSED], AS_REFUNDED)
    with pytest.raises(ContradictionError, match="refunded as settled_by_operator and as re_1"):
        world.take(GIVEN_BACK)


def test_a_bank_that_has_given_back_and_refuses_then_contradicts_itself() -> None:
    world = after(*WAYS[PaymentStatus.REFUNDED])
    with pytest.raises(ContradictionError, match=r"refunded as re_1, and refused .charge_missing."):
        world.take(NOT_GIVEN_BACK)
