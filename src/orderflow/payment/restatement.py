"""What a payment's row stands for: the events that were published of it, and what the bank must be asked.

Each event is made by the decision that made it first, over the row as it was then.
"""

from __future__ import annotations

from msgspec.structs import replace

from orderflow.events.base import order_id_of
from orderflow.events.payment import RefundFailed
from orderflow.messaging.decision import Decision, Stated, Statement
from orderflow.messaging.rows import Rows
from orderflow.payment.model import (
    CHARGE_APPROVED,
    CHARGE_REFUSED,
    REFUND_APPROVED,
    SETTLED_AS_NOT_CHARGED,
    captured,
    charge_intent,
    declined,
)
from orderflow.payment.refunds import refund_intent, refunded, voided
from orderflow.payment.rows import Payment, Status

VOIDED_FROM = 4
"""The version that a payment has at least when it is voided: charging, captured and refund due came before."""


def state_payment(rows: Rows, key: str) -> Statement:
    """Whether the order was paid; and how its refund went, which has the last number: the bank can have refused it
    several times before.
    """
    order_id = order_id_of(key)
    payment = None if order_id is None else rows.get(Payment, order_id)
    if payment is None:
        return Statement()
    asked = replace(payment, status=Status.CHARGING)
    paid = _stated(captured(asked, CHARGE_APPROVED, ""), 1)
    due = replace(payment, status=Status.REFUND_DUE, captured=payment.amount, refunded=0)
    match payment.status:
        case Status.CHARGING | Status.UNKNOWN:
            return Statement(intents=(charge_intent(payment),))
        case Status.CAPTURED:
            return Statement(events=(paid,))
        case Status.REFUND_DUE:
            return Statement(events=(paid,), intents=(refund_intent(payment),))
        case Status.REFUND_REFUSED:
            return Statement(events=(paid, Stated(_refused(payment), 0)))
        case Status.REFUNDED:
            return Statement(events=(paid, _stated(refunded(due, REFUND_APPROVED, ""), 0)))
        case Status.DECLINED if payment.event == SETTLED_AS_NOT_CHARGED and payment.version >= VOIDED_FROM:
            return Statement(events=(paid, _stated(voided(due), 0)))
        case Status.DECLINED:
            return Statement(events=(_stated(declined(asked, CHARGE_REFUSED, payment.reason or ""), 1),))


def _stated(decision: Decision, number: int) -> Stated:
    [event] = decision.events
    return Stated(event, number)


def _refused(payment: Payment) -> RefundFailed:
    return RefundFailed(
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        currency=payment.currency,
        amount=payment.captured,
        reason=payment.refund_refusal or "",
    )
