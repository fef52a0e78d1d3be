"""The payment's decisions, each and all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from orderflow.core.messages import Message
from orderflow.core.service import IllegalTransitionError
from orderflow.events.base import DisagreementError
from orderflow.events.inventory import MissingLine
from orderflow.events.payment import PaymentFailed, PaymentRefunded, PaymentSucceeded, RefundFailed
from orderflow.services.payment.messages import ChargeApproved, RefundApproved
from orderflow.services.payment.model import (
    MACHINE,
    ContradictionError,
    Payment,
    PaymentExistsError,
    PaymentStatus,
    UnknownPaymentError,
    charge_intent,
    refund_intent,
)
from orderflow.services.payment.service import SERVICE
from tests.support.decisions import World
from tests.unit.payment.examples import (
    APPROVED,
    GIVEN_BACK,
    ITEMS,
    MESSAGES,
    NOT_GIVEN_BACK,
    ORDER_ID,
    PLACED,
    REFUND_UNKNOWN,
    REFUSED,
    REJECTED,
    UNKNOWN,
    WAYS,
    charging,
)


def at(status: PaymentStatus) -> World:
    world = World(SERVICE)
    for message in WAYS[status]:
        world.take(message)
    assert the_payment(world).status is status
    return world


def the_payment(world: World) -> Payment:
    [found] = [row for row in world.rows.values() if isinstance(row, Payment)]
    return found


def test_a_placed_order_opens_one_charge_of_its_total() -> None:
    world = World(SERVICE)
    decision = world.take(PLACED)
    assert the_payment(world) == charging()
    [intent] = decision.intents
    assert intent.key == f"charge:{ORDER_ID}"
    assert intent.request == {
        "order_id": str(ORDER_ID),
        "amount": 2500,
        "currency": "EUR",
        "payment_method": "pm_card_visa",
    }
    assert not decision.events


def test_the_table_is_of_the_rows_that_it_rules_and_starts_where_they_do() -> None:
    first = charging()
    assert (MACHINE.name, MACHINE.initial, MACHINE.created_by) == (first.TABLE, first.status, first.event)


def test_an_approved_charge_is_told_with_what_inventory_needs() -> None:
    world = at(PaymentStatus.CHARGING)
    [event] = world.take(APPROVED).events
    assert event == PaymentSucceeded(order_id=ORDER_ID, customer_id="c", currency="EUR", items=ITEMS, total=2500)
    payment = the_payment(world)
    assert (payment.captured, payment.refunded, payment.charge_reference) == (2500, 0, "ch_1")


def test_a_refused_charge_is_told_with_the_banks_reason() -> None:
    world = at(PaymentStatus.CHARGING)
    [event] = world.take(REFUSED).events
    assert event == PaymentFailed(
        order_id=ORDER_ID, customer_id="c", currency="EUR", total=2500, reason="card_declined"
    )
    assert the_payment(world).captured == 0


def test_an_unknown_charge_is_asked_again_under_the_same_key_until_it_is_known() -> None:
    world = at(PaymentStatus.CHARGING)
    for _ in range(3):
        decision = world.take(UNKNOWN)
        assert [intent.key for intent in decision.intents] == [f"charge:{ORDER_ID}"]
        assert not decision.events
    assert the_payment(world).version == 2
    assert world.take(APPROVED).events
    assert the_payment(world).status is PaymentStatus.CAPTURED


def test_rejected_stock_opens_one_refund_of_what_was_captured() -> None:
    world = at(PaymentStatus.CAPTURED)
    decision = world.take(REJECTED)
    [intent] = decision.intents
    assert intent.key == f"refund:{ORDER_ID}"
    assert intent.request == {
        "order_id": str(ORDER_ID),
        "amount": 2500,
        "currency": "EUR",
        "charge": f"charge:{ORDER_ID}",
    }
    assert world.take(REFUND_UNKNOWN).intents == (refund_intent(the_payment(world)),)
    [event] = world.take(GIVEN_BACK).events
    assert event == PaymentRefunded(order_id=ORDER_ID, customer_id="c", currency="EUR", amount=2500)
    assert (the_payment(world).captured, the_payment(world).refunded) == (2500, 2500)


def test_a_refund_that_the_bank_refuses_is_told_and_not_asked_again() -> None:
    world = at(PaymentStatus.REFUND_DUE)
    decision = world.take(NOT_GIVEN_BACK)
    assert decision.intents == ()
    [event] = decision.events
    assert event == RefundFailed(
        order_id=ORDER_ID, customer_id="c", currency="EUR", amount=2500, reason="charge_missing"
    )
    payment = the_payment(world)
    assert (payment.status, payment.refund_refusal) == (PaymentStatus.REFUND_REFUSED, "charge_missing")
    assert (payment.captured, payment.refunded) == (2500, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"customer_id": "mallory"}, 'customer_id is "mallory", and here it is "c"'),
        (
            {"missing": (MissingLine(sku="SKU-Z", requested=2, available=0),)},
            'missing is [["SKU-Z",2]], and here it is [["SKU-Z",0]]',
        ),
        (
            {"missing": (MissingLine(sku="SKU-A", requested=9, available=0),)},
            'missing is [["SKU-A",9]], and here it is [["SKU-A",2]]',
        ),
    ],
)
def test_a_rejection_that_does_not_agree_with_the_payment_refunds_nothing(
    changes: dict[str, Any], words: str
) -> None:
    world = at(PaymentStatus.CAPTURED)
    before = the_payment(world)
    with pytest.raises(DisagreementError) as refused:
        world.take(msgspec.structs.replace(REJECTED, **changes))
    assert words in str(refused.value)
    assert the_payment(world) == before


NOTED = "noted"
ASKED_AGAIN = "asked again"
EFFECTS: dict[tuple[PaymentStatus, str], PaymentStatus | str] = {
    (PaymentStatus.CHARGING, "ChargeApproved"): PaymentStatus.CAPTURED,
    (PaymentStatus.CHARGING, "ChargeRefused"): PaymentStatus.DECLINED,
    (PaymentStatus.CHARGING, "ChargeUnknown"): PaymentStatus.UNKNOWN,
    (PaymentStatus.UNKNOWN, "ChargeApproved"): PaymentStatus.CAPTURED,
    (PaymentStatus.UNKNOWN, "ChargeRefused"): PaymentStatus.DECLINED,
    (PaymentStatus.UNKNOWN, "ChargeUnknown"): ASKED_AGAIN,
    (PaymentStatus.CAPTURED, "StockRejected"): PaymentStatus.REFUND_DUE,
    (PaymentStatus.CAPTURED, "ChargeApproved"): NOTED,
    (PaymentStatus.CAPTURED, "ChargeUnknown"): NOTED,
    (PaymentStatus.DECLINED, "ChargeRefused"): NOTED,
    (PaymentStatus.DECLINED, "ChargeUnknown"): NOTED,
    (PaymentStatus.REFUND_DUE, "ChargeApproved"): NOTED,
    (PaymentStatus.REFUND_DUE, "ChargeUnknown"): NOTED,
    (PaymentStatus.REFUND_DUE, "RefundApproved"): PaymentStatus.REFUNDED,
    (PaymentStatus.REFUND_DUE, "RefundUnknown"): ASKED_AGAIN,
    (PaymentStatus.REFUND_DUE, "RefundRefused"): PaymentStatus.REFUND_REFUSED,
    (PaymentStatus.REFUND_REFUSED, "ChargeApproved"): NOTED,
    (PaymentStatus.REFUND_REFUSED, "ChargeUnknown"): NOTED,
    (PaymentStatus.REFUND_REFUSED, "RefundApproved"): PaymentStatus.REFUNDED,
    (PaymentStatus.REFUND_REFUSED, "RefundRefused"): NOTED,
    (PaymentStatus.REFUND_REFUSED, "RefundUnknown"): NOTED,
    (PaymentStatus.REFUNDED, "ChargeApproved"): NOTED,
    (PaymentStatus.REFUNDED, "ChargeUnknown"): NOTED,
    (PaymentStatus.REFUNDED, "RefundApproved"): NOTED,
    (PaymentStatus.REFUNDED, "RefundUnknown"): NOTED,
}


@pytest.mark.parametrize("status", list(PaymentStatus))
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_in_every_state_does_what_the_table_says(status: PaymentStatus, message: Message) -> None:
    world = at(status)
    before = the_payment(world)
    expected = EFFECTS.get((status, type(message).__name__))
    if expected is None:
        with pytest.raises((IllegalTransitionError, PaymentExistsError, ContradictionError)) as refused:
            world.take(message)
        if isinstance(refused.value, IllegalTransitionError):
            assert str(refused.value) == f"payments: {type(message).__name__} cannot happen in state {status}"
        assert the_payment(world) == before
        return
    decision = world.take(message)
    after = the_payment(world)
    if isinstance(expected, PaymentStatus):
        assert (after.status, after.version, after.event) == (
            expected,
            before.version + 1,
            type(message).__name__,
        )
    else:
        assert after == before
        assert not decision.events
        assert bool(decision.intents) == (expected == ASKED_AGAIN)


@pytest.mark.parametrize("message", MESSAGES[1:], ids=lambda message: type(message).__name__)
def test_a_message_about_a_payment_that_is_not_there_raises(message: Message) -> None:
    with pytest.raises(UnknownPaymentError):
        World(SERVICE).take(message)


def test_a_second_charge_or_refund_of_one_order_raises() -> None:
    with pytest.raises(ContradictionError):
        at(PaymentStatus.CAPTURED).take(ChargeApproved(order_id=ORDER_ID, reference="ch_2"))
    with pytest.raises(ContradictionError):
        at(PaymentStatus.REFUNDED).take(RefundApproved(order_id=ORDER_ID, reference="re_2"))


def test_intents_are_the_same_whenever_they_are_made() -> None:
    world = at(PaymentStatus.UNKNOWN)
    assert charge_intent(the_payment(world)) == charge_intent(charging())
