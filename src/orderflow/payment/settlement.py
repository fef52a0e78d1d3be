"""The decision that takes an operator's word for a charge or a refund that the bank leaves open, or will not make."""

from __future__ import annotations

from msgspec.structs import replace

from orderflow.messaging.decision import Decision, RefusedError
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.rows import Rows
from orderflow.payment.messages import Outcome, PaymentSettled, SettlePayment
from orderflow.payment.model import (
    BY_OPERATOR,
    REFUND_ASKED_AGAIN,
    SETTLED_AS_CHARGED,
    SETTLED_AS_NOT_CHARGED,
    SETTLED_AS_REFUNDED,
    advance,
    captured,
    charge_intent,
    declined,
    payment_of,
)
from orderflow.payment.refunds import refund_intent, refunded, voided
from orderflow.payment.rows import Payment, Status

OPEN_CHARGE = (Status.CHARGING, Status.UNKNOWN)
OPEN_REFUND = (Status.REFUND_DUE, Status.REFUND_REFUSED)


def settle_payment(rows: Rows, envelope: Envelope) -> Decision:
    """What the bank's answer would have done; the bank is not asked any more. Said twice, it is done once.

    Raises RefusedError: what is said is not open, or the bank has said otherwise.
    """
    command = envelope.message
    assert isinstance(command, SettlePayment)
    payment = payment_of(rows, command.order_id)
    if _is_settled_so(payment, command.outcome):
        return Decision(answer=_answer(payment, changed=False))
    decision = _settled(payment, command.outcome)
    [after] = decision.rows
    assert isinstance(after, Payment)
    return replace(decision, answer=_answer(after, changed=True))


def _settled(payment: Payment, outcome: Outcome) -> Decision:
    match outcome:
        case Outcome.CHARGED:
            _require(payment, OPEN_CHARGE, "charge")
            decision = captured(payment, SETTLED_AS_CHARGED, BY_OPERATOR)
            return replace(decision, closes=(charge_intent(payment).key,))
        case Outcome.NOT_CHARGED if payment.status in OPEN_REFUND:
            _require_only_said_to_be_charged(payment)
            return replace(voided(payment), closes=(refund_intent(payment).key,))
        case Outcome.NOT_CHARGED:
            _require(payment, OPEN_CHARGE, "charge")
            decision = declined(payment, SETTLED_AS_NOT_CHARGED, BY_OPERATOR)
            return replace(decision, closes=(charge_intent(payment).key,))
        case Outcome.REFUNDED:
            _require(payment, OPEN_REFUND, "refund")
            decision = refunded(payment, SETTLED_AS_REFUNDED, BY_OPERATOR)
            return replace(decision, closes=(refund_intent(payment).key,))
        case Outcome.ASK_AGAIN:
            _require(payment, (Status.REFUND_REFUSED,), "refund")
            due = advance(payment, REFUND_ASKED_AGAIN, refund_refusal=None)
            return Decision(rows=(due,), intents=(refund_intent(due),))


def _require(payment: Payment, states: tuple[Status, ...], what: str) -> None:
    if payment.status not in states:
        raise RefusedError(f"the {what} of order {payment.order_id} is not open: its payment is {payment.status}")


def _require_only_said_to_be_charged(payment: Payment) -> None:
    if payment.charge_reference != BY_OPERATOR:
        raise RefusedError(
            f"the bank has said that order {payment.order_id} was charged, as {payment.charge_reference}: "
            "it can be settled as refunded, once the customer has the money back"
        )


def _is_settled_so(payment: Payment, outcome: Outcome) -> bool:
    match outcome:
        case Outcome.CHARGED:
            return payment.charge_reference == BY_OPERATOR
        case Outcome.NOT_CHARGED:
            return payment.reason == BY_OPERATOR
        case Outcome.REFUNDED:
            return payment.refund_reference == BY_OPERATOR
        case Outcome.ASK_AGAIN:
            return payment.status is Status.REFUND_DUE


def _answer(payment: Payment, *, changed: bool) -> PaymentSettled:
    return PaymentSettled(
        order_id=payment.order_id,
        status=payment.status,
        captured=payment.captured,
        refunded=payment.refunded,
        currency=payment.currency,
        changed=changed,
    )
