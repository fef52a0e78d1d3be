"""The payment's decisions about the refund: pure functions of the working set and one message."""

from __future__ import annotations

from orderflow.events.inventory import StockRejected
from orderflow.events.payment import PaymentRefunded
from orderflow.messaging.decision import Decision, Intent
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.identity import uuid_text
from orderflow.messaging.machine import IllegalTransitionError
from orderflow.messaging.rows import Rows
from orderflow.payment.messages import RefundApproved, RefundUnknown
from orderflow.payment.model import (
    CHARGE,
    MACHINE,
    REFUND_APPROVED,
    STOCK_REJECTED,
    ContradictionError,
    advance,
    payment_of,
)
from orderflow.payment.rows import Payment, Status

REFUND = "refund"
REFUND_UNKNOWN = "RefundUnknown"


def stock_rejected(rows: Rows, envelope: Envelope) -> Decision:
    """What was captured goes back, once: only a captured payment can begin a refund."""
    event = envelope.message
    assert isinstance(event, StockRejected)
    due = advance(payment_of(rows, event.order_id), STOCK_REJECTED)
    return Decision(rows=(due,), intents=(refund_intent(due),))


def refund_approved(rows: Rows, envelope: Envelope) -> Decision:
    """The money is back: PaymentRefunded."""
    answer = envelope.message
    assert isinstance(answer, RefundApproved)
    payment = payment_of(rows, answer.order_id)
    if payment.refund_reference == answer.reference:
        return Decision()
    if payment.refund_reference is not None:
        raise ContradictionError(f"refunded as {payment.refund_reference} and as {answer.reference}")
    refunded = advance(payment, REFUND_APPROVED, refunded=payment.captured, refund_reference=answer.reference)
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
    payment = payment_of(rows, answer.order_id)
    if payment.status is Status.REFUND_DUE:
        return Decision(intents=(refund_intent(payment),))
    if payment.status is Status.REFUNDED:
        return Decision()
    raise IllegalTransitionError(MACHINE.name, payment.status, REFUND_UNKNOWN)


def refund_intent(payment: Payment) -> Intent:
    """The one refund of this order, of everything that was captured."""
    order_id = uuid_text(payment.order_id)
    request = {
        "order_id": order_id,
        "amount": payment.captured,
        "currency": payment.currency,
        "charge": f"{CHARGE}:{order_id}",
    }
    return Intent(key=f"{REFUND}:{order_id}", kind=REFUND, request=request)
