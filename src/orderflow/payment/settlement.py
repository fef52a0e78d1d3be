"""The decision that takes an operator's word for a charge whose outcome the bank does not tell."""

from __future__ import annotations

from msgspec.structs import replace

from orderflow.messaging.decision import Decision, RefusedError
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.rows import Rows
from orderflow.payment.messages import ChargeSettled, SettleCharge
from orderflow.payment.model import (
    BY_OPERATOR,
    SETTLED_AS_CHARGED,
    SETTLED_AS_NOT_CHARGED,
    captured,
    charge_intent,
    declined,
    payment_of,
)
from orderflow.payment.rows import Payment, Status

OPEN = (Status.CHARGING, Status.UNKNOWN)


def settle_charge(rows: Rows, envelope: Envelope) -> Decision:
    """What the bank's answer would have done; the bank is not asked any more. Said twice, it is done once.

    Raises RefusedError: the charge is not open.
    """
    command = envelope.message
    assert isinstance(command, SettleCharge)
    payment = payment_of(rows, command.order_id)
    if _is_settled_so(payment, command.charged):
        return Decision(answer=_answer(payment, changed=False))
    if payment.status not in OPEN:
        raise RefusedError(
            f"the charge of order {payment.order_id} is not open any more: its payment is {payment.status}"
        )
    if command.charged:
        decision = captured(payment, SETTLED_AS_CHARGED, BY_OPERATOR)
    else:
        decision = declined(payment, SETTLED_AS_NOT_CHARGED, BY_OPERATOR)
    [settled] = decision.rows
    assert isinstance(settled, Payment)
    return replace(decision, closes=(charge_intent(payment).key,), answer=_answer(settled, changed=True))


def _is_settled_so(payment: Payment, charged: bool) -> bool:
    return (payment.charge_reference if charged else payment.reason) == BY_OPERATOR


def _answer(payment: Payment, *, changed: bool) -> ChargeSettled:
    return ChargeSettled(
        order_id=payment.order_id,
        status=payment.status,
        captured=payment.captured,
        currency=payment.currency,
        changed=changed,
    )
