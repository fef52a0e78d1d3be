"""The payment's decisions: pure functions of the working set and one message."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from orderflow.events.inventory import StockRejected
from orderflow.events.order import OrderPlaced
from orderflow.events.payment import PaymentFailed, PaymentRefunded, PaymentSucceeded
from orderflow.messaging.decision import Decision, Intent
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.machine import IllegalTransitionError, StateMachine
from orderflow.messaging.rows import Rows
from orderflow.payment.messages import (
    ChargeApproved,
    ChargeRefused,
    ChargeUnknown,
    RefundApproved,
    RefundUnknown,
)
from orderflow.payment.rows import Payment, Status

ORDER_PLACED = "OrderPlaced"
CHARGE_APPROVED = "ChargeApproved"
CHARGE_REFUSED = "ChargeRefused"
CHARGE_UNKNOWN = "ChargeUnknown"
STOCK_REJECTED = "StockRejected"
REFUND_APPROVED = "RefundApproved"
REFUND_UNKNOWN = "RefundUnknown"

CHARGE = "charge"
REFUND = "refund"

MACHINE = StateMachine(
    name="payments",
    initial=Status.CHARGING,
    created_by=ORDER_PLACED,
    transitions=MappingProxyType(
        {
            (Status.CHARGING, CHARGE_APPROVED): Status.CAPTURED,
            (Status.CHARGING, CHARGE_REFUSED): Status.DECLINED,
            (Status.CHARGING, CHARGE_UNKNOWN): Status.UNKNOWN,
            (Status.UNKNOWN, CHARGE_APPROVED): Status.CAPTURED,
            (Status.UNKNOWN, CHARGE_REFUSED): Status.DECLINED,
            (Status.CAPTURED, STOCK_REJECTED): Status.REFUND_DUE,
            (Status.REFUND_DUE, REFUND_APPROVED): Status.REFUNDED,
        }
    ),
)


class UnknownPaymentError(Exception):
    """The message is about an order whose payment this service does not have."""


class PaymentExistsError(Exception):
    """The order has a payment already."""


class ContradictionError(Exception):
    """The bank answers one intent in two ways: money may have moved twice."""


def order_placed(rows: Rows, envelope: Envelope) -> Decision:
    """A new payment; the bank is asked for the charge once this is committed."""
    event = envelope.message
    assert isinstance(event, OrderPlaced)
    if rows.get(Payment, event.order_id) is not None:
        raise PaymentExistsError(f"order {event.order_id} has a payment")
    payment = Payment(
        order_id=event.order_id,
        customer_id=event.customer_id,
        currency=event.currency,
        items=event.items,
        amount=event.total,
        payment_method=event.payment_method,
        status=Status.CHARGING,
        version=1,
        event=ORDER_PLACED,
    )
    return Decision(rows=(payment,), intents=(charge_intent(payment),))


def charge_approved(rows: Rows, envelope: Envelope) -> Decision:
    """The order's total is captured: PaymentSucceeded."""
    answer = envelope.message
    assert isinstance(answer, ChargeApproved)
    payment = _payment(rows, answer.order_id)
    if payment.charge_reference == answer.reference:
        return Decision()
    if payment.charge_reference is not None:
        raise ContradictionError(f"charged as {payment.charge_reference} and as {answer.reference}")
    captured = _advance(payment, CHARGE_APPROVED, captured=payment.amount, charge_reference=answer.reference)
    succeeded = PaymentSucceeded(
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        currency=payment.currency,
        items=payment.items,
        total=payment.amount,
    )
    return Decision(rows=(captured,), events=(succeeded,))


def charge_refused(rows: Rows, envelope: Envelope) -> Decision:
    """The bank declines for good: PaymentFailed."""
    answer = envelope.message
    assert isinstance(answer, ChargeRefused)
    payment = _payment(rows, answer.order_id)
    if payment.status is Status.DECLINED:
        return Decision()
    declined = _advance(payment, CHARGE_REFUSED, reason=answer.reason)
    failed = PaymentFailed(
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        currency=payment.currency,
        total=payment.amount,
        reason=answer.reason,
    )
    return Decision(rows=(declined,), events=(failed,))


def charge_unknown(rows: Rows, envelope: Envelope) -> Decision:
    """No answer in time: ask again under the same key, until the bank has said what it did."""
    answer = envelope.message
    assert isinstance(answer, ChargeUnknown)
    payment = _payment(rows, answer.order_id)
    if payment.status is Status.CHARGING:
        payment = _advance(payment, CHARGE_UNKNOWN)
        return Decision(rows=(payment,), intents=(charge_intent(payment),))
    if payment.status is Status.UNKNOWN:
        return Decision(intents=(charge_intent(payment),))
    return Decision()


def stock_rejected(rows: Rows, envelope: Envelope) -> Decision:
    """What was captured goes back, once: only a captured payment can begin a refund."""
    event = envelope.message
    assert isinstance(event, StockRejected)
    due = _advance(_payment(rows, event.order_id), STOCK_REJECTED)
    return Decision(rows=(due,), intents=(refund_intent(due),))


def refund_approved(rows: Rows, envelope: Envelope) -> Decision:
    """The money is back: PaymentRefunded."""
    answer = envelope.message
    assert isinstance(answer, RefundApproved)
    payment = _payment(rows, answer.order_id)
    if payment.refund_reference == answer.reference:
        return Decision()
    if payment.refund_reference is not None:
        raise ContradictionError(f"refunded as {payment.refund_reference} and as {answer.reference}")
    refunded = _advance(payment, REFUND_APPROVED, refunded=payment.captured, refund_reference=answer.reference)
    event = PaymentRefunded(
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        currency=payment.currency,
        amount=payment.captured,
    )
    return Decision(rows=(refunded,), events=(event,))


def refund_unknown(rows: Rows, envelope: Envelope) -> Decision:
    """No answer in time: ask again under the same key."""
    answer = envelope.message
    assert isinstance(answer, RefundUnknown)
    payment = _payment(rows, answer.order_id)
    if payment.status is Status.REFUND_DUE:
        return Decision(intents=(refund_intent(payment),))
    if payment.status is Status.REFUNDED:
        return Decision()
    raise IllegalTransitionError(MACHINE.name, payment.status, REFUND_UNKNOWN)


def charge_intent(payment: Payment) -> Intent:
    """The one charge of this order."""
    request = {
        "order_id": str(payment.order_id),
        "amount": payment.amount,
        "currency": payment.currency,
        "payment_method": payment.payment_method,
    }
    return Intent(key=f"{CHARGE}:{payment.order_id}", kind=CHARGE, request=request)


def refund_intent(payment: Payment) -> Intent:
    """The one refund of this order, of everything that was captured."""
    request = {
        "order_id": str(payment.order_id),
        "amount": payment.captured,
        "currency": payment.currency,
        "charge": f"{CHARGE}:{payment.order_id}",
    }
    return Intent(key=f"{REFUND}:{payment.order_id}", kind=REFUND, request=request)


def _advance(payment: Payment, event: str, **changes: Any) -> Payment:
    after = Status(MACHINE.after(payment.status, event))
    return replace(payment, status=after, version=payment.version + 1, event=event, **changes)


def _payment(rows: Rows, order_id: UUID) -> Payment:
    payment = rows.get(Payment, order_id)
    if payment is None:
        raise UnknownPaymentError(f"no payment of order {order_id}")
    return payment
