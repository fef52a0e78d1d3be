"""The payment's decisions about the refund: pure functions of the working set and one message."""

from __future__ import annotations

from orderflow.events.base import require_same
from orderflow.events.inventory import StockRejected, require_ordered
from orderflow.events.payment import PaymentRefunded, PaymentVoided, RefundFailed
from orderflow.messaging.decision import Decision, Intent
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.identity import uuid_text
from orderflow.messaging.machine import IllegalTransitionError
from orderflow.messaging.rows import Rows
from orderflow.payment.messages import RefundApproved, RefundRefused, RefundUnknown
from orderflow.payment.model import (
    BY_OPERATOR,
    CHARGE,
    MACHINE,
    REFUND_APPROVED,
    REFUND_REFUSED,
    SETTLED_AS_NOT_CHARGED,
    STOCK_REJECTED,
    ContradictionError,
    advance,
    payment_of,
)
from orderflow.payment.rows import Payment, Status

REFUND = "refund"
REFUND_UNKNOWN = "RefundUnknown"


def stock_rejected(rows: Rows, envelope: Envelope) -> Decision:
    """What was captured goes back, once: only a captured payment can begin a refund.

    Raises DisagreementError: what is said to be missing was not ordered so, or by another customer.
    """
    event = envelope.message
    assert isinstance(event, StockRejected)
    payment = payment_of(rows, event.order_id)
    require_same(event, payment, "customer_id")
    require_ordered(event, payment.items)
    due = advance(payment, STOCK_REJECTED)
    return Decision(rows=(due,), intents=(refund_intent(due),))


def refund_approved(rows: Rows, envelope: Envelope) -> Decision:
    """The money is back: PaymentRefunded. Raises ContradictionError also when an operator has said so before: the
    customer may have it twice then, from the bank and in another way.
    """
    answer = envelope.message
    assert isinstance(answer, RefundApproved)
    payment = payment_of(rows, answer.order_id)
    if payment.refund_reference == answer.reference:
        return Decision()
    if payment.refund_reference is not None:
        raise ContradictionError(f"refunded as {payment.refund_reference} and as {answer.reference}")
    return refunded(payment, REFUND_APPROVED, answer.reference)


def refund_refused(rows: Rows, envelope: Envelope) -> Decision:
    """The bank will not give the money back: it is not asked any more, and RefundFailed says so."""
    answer = envelope.message
    assert isinstance(answer, RefundRefused)
    payment = payment_of(rows, answer.order_id)
    if payment.status is Status.REFUND_REFUSED or _is_settled(payment):
        return Decision()
    if payment.refund_reference is not None:
        raise ContradictionError(f"refunded as {payment.refund_reference}, and refused ({answer.reason})")
    refused = advance(payment, REFUND_REFUSED, refund_refusal=answer.reason)
    event = RefundFailed(
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        currency=payment.currency,
        amount=payment.captured,
        reason=answer.reason,
    )
    return Decision(rows=(refused,), events=(event,))


def refund_unknown(rows: Rows, envelope: Envelope) -> Decision:
    """No answer in time: ask again under the same key."""
    answer = envelope.message
    assert isinstance(answer, RefundUnknown)
    payment = payment_of(rows, answer.order_id)
    if payment.status is Status.REFUND_DUE:
        return Decision(intents=(refund_intent(payment),))
    if payment.status in (Status.REFUNDED, Status.REFUND_REFUSED) or _is_settled(payment):
        return Decision()
    raise IllegalTransitionError(MACHINE.name, payment.status, REFUND_UNKNOWN)


def refunded(payment: Payment, event: str, reference: str) -> Decision:
    """Everything that was captured is back. Raises IllegalTransitionError."""
    back = advance(payment, event, refunded=payment.captured, refund_reference=reference, refund_refusal=None)
    told = PaymentRefunded(
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        currency=payment.currency,
        amount=payment.captured,
    )
    return Decision(rows=(back,), events=(told,))


def voided(payment: Payment) -> Decision:
    """What an operator had settled as charged never was: there is nothing to give back."""
    void = advance(
        payment,
        SETTLED_AS_NOT_CHARGED,
        captured=0,
        charge_reference=None,
        reason=BY_OPERATOR,
        refund_refusal=None,
    )
    told = PaymentVoided(
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        currency=payment.currency,
        amount=payment.captured,
    )
    return Decision(rows=(void,), events=(told,))


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


def _is_settled(payment: Payment) -> bool:
    """An operator has said what became of the money, or that there never was any."""
    return BY_OPERATOR in (payment.refund_reference, payment.reason)
