"""The payment's states, and its decisions about the charge: pure functions of the working set and one message."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from orderflow.events.order import OrderPlaced
from orderflow.events.payment import PaymentFailed, PaymentSucceeded
from orderflow.messaging.decision import Decision, Intent
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.failures import FinalError
from orderflow.messaging.identity import uuid_text
from orderflow.messaging.machine import StateMachine
from orderflow.messaging.rows import Rows
from orderflow.payment.messages import ChargeApproved, ChargeRefused, ChargeUnknown
from orderflow.payment.rows import Payment, Status

ORDER_PLACED = "OrderPlaced"
CHARGE_APPROVED = "ChargeApproved"
CHARGE_REFUSED = "ChargeRefused"
CHARGE_UNKNOWN = "ChargeUnknown"
STOCK_REJECTED = "StockRejected"
REFUND_APPROVED = "RefundApproved"
REFUND_REFUSED = "RefundRefused"
REFUND_ASKED_AGAIN = "RefundAskedAgain"
SETTLED_AS_CHARGED = "SettledAsCharged"
SETTLED_AS_NOT_CHARGED = "SettledAsNotCharged"
SETTLED_AS_REFUNDED = "SettledAsRefunded"

CHARGE = "charge"

BY_OPERATOR = "settled_by_operator"
"""The reference of a charge or a refund, or the reason of a decline, that an operator has settled."""

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
            (Status.CHARGING, SETTLED_AS_CHARGED): Status.CAPTURED,
            (Status.CHARGING, SETTLED_AS_NOT_CHARGED): Status.DECLINED,
            (Status.UNKNOWN, SETTLED_AS_CHARGED): Status.CAPTURED,
            (Status.UNKNOWN, SETTLED_AS_NOT_CHARGED): Status.DECLINED,
            (Status.CAPTURED, STOCK_REJECTED): Status.REFUND_DUE,
            (Status.REFUND_DUE, REFUND_APPROVED): Status.REFUNDED,
            (Status.REFUND_DUE, REFUND_REFUSED): Status.REFUND_REFUSED,
            (Status.REFUND_REFUSED, REFUND_APPROVED): Status.REFUNDED,
            (Status.REFUND_REFUSED, REFUND_ASKED_AGAIN): Status.REFUND_DUE,
            (Status.REFUND_DUE, SETTLED_AS_REFUNDED): Status.REFUNDED,
            (Status.REFUND_REFUSED, SETTLED_AS_REFUNDED): Status.REFUNDED,
            (Status.REFUND_DUE, SETTLED_AS_NOT_CHARGED): Status.DECLINED,
            (Status.REFUND_REFUSED, SETTLED_AS_NOT_CHARGED): Status.DECLINED,
        }
    ),
)


class UnknownPaymentError(FinalError):
    """The message is about an order whose payment this service does not have: all else follows the payment."""


class PaymentExistsError(FinalError):
    """The order has a payment already."""


class ContradictionError(FinalError):
    """The bank answers one intent in two ways, or otherwise than an operator has settled it: somebody has to look."""


def order_placed(rows: Rows, envelope: Envelope) -> Decision:
    """A new payment; the bank is asked for the charge once this is committed.

    Nothing is known of the order before, so there is nothing to compare with: that the order is one that a shop could
    have placed, and its total what its items add up to, every OrderPlaced holds by itself.
    """
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
    """The order's total is captured: PaymentSucceeded. An operator who has said so before was right."""
    answer = envelope.message
    assert isinstance(answer, ChargeApproved)
    payment = payment_of(rows, answer.order_id)
    if payment.charge_reference in (answer.reference, BY_OPERATOR):
        return Decision()
    if payment.charge_reference is not None:
        raise ContradictionError(f"charged as {payment.charge_reference} and as {answer.reference}")
    if payment.status is Status.DECLINED:
        raise ContradictionError(f"declined ({payment.reason}), and charged as {answer.reference}")
    return captured(payment, CHARGE_APPROVED, answer.reference)


def charge_refused(rows: Rows, envelope: Envelope) -> Decision:
    """The bank declines for good: PaymentFailed. An operator who has said so before was right."""
    answer = envelope.message
    assert isinstance(answer, ChargeRefused)
    payment = payment_of(rows, answer.order_id)
    if payment.status is Status.DECLINED:
        return Decision()
    if payment.charge_reference is not None:
        raise ContradictionError(f"charged as {payment.charge_reference}, and declined ({answer.reason})")
    return declined(payment, CHARGE_REFUSED, answer.reason)


def charge_unknown(rows: Rows, envelope: Envelope) -> Decision:
    """No answer in time: ask again under the same key, until the bank has said what it did."""
    answer = envelope.message
    assert isinstance(answer, ChargeUnknown)
    payment = payment_of(rows, answer.order_id)
    if payment.status is Status.CHARGING:
        payment = advance(payment, CHARGE_UNKNOWN)
        return Decision(rows=(payment,), intents=(charge_intent(payment),))
    if payment.status is Status.UNKNOWN:
        return Decision(intents=(charge_intent(payment),))
    return Decision()


def charge_intent(payment: Payment) -> Intent:
    """The one charge of this order."""
    order_id = uuid_text(payment.order_id)
    request = {
        "order_id": order_id,
        "amount": payment.amount,
        "currency": payment.currency,
        "payment_method": payment.payment_method,
    }
    return Intent(key=f"{CHARGE}:{order_id}", kind=CHARGE, request=request)


def captured(payment: Payment, event: str, reference: str) -> Decision:
    """The whole amount is taken. Raises IllegalTransitionError."""
    paid = advance(payment, event, captured=payment.amount, charge_reference=reference)
    succeeded = PaymentSucceeded(
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        currency=payment.currency,
        items=payment.items,
        total=payment.amount,
    )
    return Decision(rows=(paid,), events=(succeeded,))


def declined(payment: Payment, event: str, reason: str) -> Decision:
    """Nothing is taken, and nothing will be. Raises IllegalTransitionError."""
    unpaid = advance(payment, event, reason=reason)
    failed = PaymentFailed(
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        currency=payment.currency,
        total=payment.amount,
        reason=reason,
    )
    return Decision(rows=(unpaid,), events=(failed,))


def advance(payment: Payment, event: str, **changes: Any) -> Payment:
    """The payment after the event. Raises IllegalTransitionError."""
    after = Status(MACHINE.after(payment.status, event))
    return replace(payment, status=after, version=payment.version + 1, event=event, **changes)


def payment_of(rows: Rows, order_id: UUID) -> Payment:
    """Raises UnknownPaymentError."""
    payment = rows.get(Payment, order_id)
    if payment is None:
        raise UnknownPaymentError(f"no payment of order {order_id}")
    return payment
