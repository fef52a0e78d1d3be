"""Payments, and the decisions of the payment service: pure functions of the working set and one message.

In this order: the charge, the refund, settlement by an operator, and restatement.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar
from uuid import UUID

from msgspec.structs import replace

from orderflow import (
    Decision,
    FinalError,
    IllegalTransitionError,
    Intent,
    Ref,
    RefusedError,
    Row,
    Rows,
    Stated,
    StateMachine,
    Statement,
    handles,
    uuid_text,
)
from orderflow.events import (
    Item,
    OrderEvent,
    OrderPlaced,
    PaymentFailed,
    PaymentRefunded,
    PaymentSucceeded,
    PaymentVoided,
    RefundFailed,
    StockRejected,
    order_id_of,
    require_ordered,
    require_same,
)
from orderflow.services.payment.messages import (
    BankAnswer,
    ChargeApproved,
    ChargeRefused,
    ChargeUnknown,
    PaymentSettled,
    RefundApproved,
    RefundRefused,
    RefundUnknown,
    SettlementOutcome,
    SettlePayment,
)


class PaymentStatus(StrEnum):
    """The state of a payment.

    UNKNOWN: the bank did not answer in time, and is being asked again. REFUND_REFUSED: the bank refuses the refund,
    and an operator has to settle it.
    """

    CHARGING = "CHARGING"
    UNKNOWN = "UNKNOWN"
    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    REFUND_DUE = "REFUND_DUE"
    REFUND_REFUSED = "REFUND_REFUSED"
    REFUNDED = "REFUNDED"


class Payment(Row, frozen=True, kw_only=True):
    """The payment of one order; amounts in minor units of `currency`.

    `version` counts its transitions from 1; `event` has led to `status`. `charge_reference` and `refund_reference`
    are the bank's; `refund_refusal` is the bank's reason for refusing the refund.
    """

    TABLE: ClassVar[str] = "payments"
    KEY: ClassVar[str] = "order_id"
    CHANGES: ClassVar[tuple[str, ...]] = (
        "status",
        "version",
        "event",
        "captured",
        "refunded",
        "reason",
        "charge_reference",
        "refund_reference",
        "refund_refusal",
    )
    CHANGED_AT: ClassVar[str] = "changed_at"
    STEPWISE: ClassVar[bool] = True

    order_id: UUID
    customer_id: str
    currency: str
    items: tuple[Item, ...]
    amount: int
    payment_method: str
    status: PaymentStatus
    version: int
    event: str
    captured: int = 0
    refunded: int = 0
    reason: str | None = None
    charge_reference: str | None = None
    refund_reference: str | None = None
    refund_refusal: str | None = None


ORDER_PLACED = "OrderPlaced"
CHARGE_APPROVED = "ChargeApproved"
CHARGE_REFUSED = "ChargeRefused"
CHARGE_UNKNOWN = "ChargeUnknown"
STOCK_REJECTED = "StockRejected"
REFUND_APPROVED = "RefundApproved"
REFUND_REFUSED = "RefundRefused"
REFUND_UNKNOWN = "RefundUnknown"
REFUND_ASKED_AGAIN = "RefundAskedAgain"
SETTLED_AS_CHARGED = "SettledAsCharged"
SETTLED_AS_NOT_CHARGED = "SettledAsNotCharged"
SETTLED_AS_REFUNDED = "SettledAsRefunded"

CHARGE = "charge"
REFUND = "refund"

BY_OPERATOR = "settled_by_operator"
"""The reference of a charge or refund, or the reason of a decline, if an operator has settled it."""

MACHINE = StateMachine(
    name="payments",
    initial=PaymentStatus.CHARGING,
    created_by=ORDER_PLACED,
    transitions=MappingProxyType(
        {
            (PaymentStatus.CHARGING, CHARGE_APPROVED): PaymentStatus.CAPTURED,
            (PaymentStatus.CHARGING, CHARGE_REFUSED): PaymentStatus.DECLINED,
            (PaymentStatus.CHARGING, CHARGE_UNKNOWN): PaymentStatus.UNKNOWN,
            (PaymentStatus.UNKNOWN, CHARGE_APPROVED): PaymentStatus.CAPTURED,
            (PaymentStatus.UNKNOWN, CHARGE_REFUSED): PaymentStatus.DECLINED,
            (PaymentStatus.CHARGING, SETTLED_AS_CHARGED): PaymentStatus.CAPTURED,
            (PaymentStatus.CHARGING, SETTLED_AS_NOT_CHARGED): PaymentStatus.DECLINED,
            (PaymentStatus.UNKNOWN, SETTLED_AS_CHARGED): PaymentStatus.CAPTURED,
            (PaymentStatus.UNKNOWN, SETTLED_AS_NOT_CHARGED): PaymentStatus.DECLINED,
            (PaymentStatus.CAPTURED, STOCK_REJECTED): PaymentStatus.REFUND_DUE,
            (PaymentStatus.REFUND_DUE, REFUND_APPROVED): PaymentStatus.REFUNDED,
            (PaymentStatus.REFUND_DUE, REFUND_REFUSED): PaymentStatus.REFUND_REFUSED,
            (PaymentStatus.REFUND_REFUSED, REFUND_APPROVED): PaymentStatus.REFUNDED,
            (PaymentStatus.REFUND_REFUSED, REFUND_ASKED_AGAIN): PaymentStatus.REFUND_DUE,
            (PaymentStatus.REFUND_DUE, SETTLED_AS_REFUNDED): PaymentStatus.REFUNDED,
            (PaymentStatus.REFUND_REFUSED, SETTLED_AS_REFUNDED): PaymentStatus.REFUNDED,
            (PaymentStatus.REFUND_DUE, SETTLED_AS_NOT_CHARGED): PaymentStatus.DECLINED,
            (PaymentStatus.REFUND_REFUSED, SETTLED_AS_NOT_CHARGED): PaymentStatus.DECLINED,
        }
    ),
)


ORDERED = ("customer_id", "currency", "items", "total")

OPEN_CHARGE = (PaymentStatus.CHARGING, PaymentStatus.UNKNOWN)
OPEN_REFUND = (PaymentStatus.REFUND_DUE, PaymentStatus.REFUND_REFUSED)
VOIDED_FROM = 4
"""The lowest version of a voided payment: it was charging, captured and refund due before."""


class UnknownPaymentError(FinalError):
    """The message is about a payment that does not exist here: every other message follows it."""


class PaymentExistsError(FinalError):
    """The order has a payment already."""


class ContradictionError(FinalError):
    """The bank's answer contradicts an earlier one, or an operator's settlement: a person has to look into it."""


def _its_payment(message: OrderEvent | BankAnswer | SettlePayment) -> tuple[Ref, ...]:
    return (Ref(Payment, message.order_id),)


@handles(OrderPlaced, touches=_its_payment, trusts=ORDERED)
def order_placed(rows: Rows, event: OrderPlaced) -> Decision:
    """Make a new payment; the bank is asked for the charge after the commit.

    Nothing is stored of the order yet, so there is nothing to compare the event with. OrderPlaced itself ensures that
    a shop could have placed the order, and that the items add up to the total.
    """
    if rows.get(Payment, event.order_id) is not None:
        raise PaymentExistsError(f"order {event.order_id} has a payment")
    payment = Payment(
        order_id=event.order_id,
        customer_id=event.customer_id,
        currency=event.currency,
        items=event.items,
        amount=event.total,
        payment_method=event.payment_method,
        status=PaymentStatus.CHARGING,
        version=1,
        event=ORDER_PLACED,
    )
    return Decision(rows=(payment,), intents=(charge_intent(payment),))


@handles(ChargeApproved, touches=_its_payment)
def charge_approved(rows: Rows, answer: ChargeApproved) -> Decision:
    """The order's total is captured: PaymentSucceeded. An operator's equal settlement before stands."""
    payment = payment_of(rows, answer.order_id)
    if payment.charge_reference in (answer.reference, BY_OPERATOR):
        return Decision()
    if payment.charge_reference is not None:
        raise ContradictionError(f"charged as {payment.charge_reference} and as {answer.reference}")
    if payment.status is PaymentStatus.DECLINED:
        raise ContradictionError(f"declined ({payment.reason}), and charged as {answer.reference}")
    return captured(payment, CHARGE_APPROVED, answer.reference)


@handles(ChargeRefused, touches=_its_payment)
def charge_refused(rows: Rows, answer: ChargeRefused) -> Decision:
    """The bank declines for good: PaymentFailed. An operator's equal settlement before stands."""
    payment = payment_of(rows, answer.order_id)
    if payment.status is PaymentStatus.DECLINED:
        return Decision()
    if payment.charge_reference is not None:
        raise ContradictionError(f"charged as {payment.charge_reference}, and declined ({answer.reason})")
    return declined(payment, CHARGE_REFUSED, answer.reason)


@handles(ChargeUnknown, touches=_its_payment)
def charge_unknown(rows: Rows, answer: ChargeUnknown) -> Decision:
    """No answer in time: ask again with the same key, until the bank reports the result."""
    payment = payment_of(rows, answer.order_id)
    if payment.status is PaymentStatus.CHARGING:
        payment = advance(payment, CHARGE_UNKNOWN)
        return Decision(rows=(payment,), intents=(charge_intent(payment),))
    if payment.status is PaymentStatus.UNKNOWN:
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
    """The whole amount is captured. Raises IllegalTransitionError."""
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
    """Nothing is captured, and nothing will be. Raises IllegalTransitionError."""
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
    after = PaymentStatus(MACHINE.after(payment.status, event))
    return replace(payment, status=after, version=payment.version + 1, event=event, **changes)


def payment_of(rows: Rows, order_id: UUID) -> Payment:
    """The payment of an order. Raises UnknownPaymentError."""
    payment = rows.get(Payment, order_id)
    if payment is None:
        raise UnknownPaymentError(f"no payment of order {order_id}")
    return payment


@handles(StockRejected, touches=_its_payment)
def stock_rejected(rows: Rows, event: StockRejected) -> Decision:
    """Begin the refund, once: only a captured payment can.

    Raises DisagreementError if the missing items or the customer differ from the order's.
    """
    payment = payment_of(rows, event.order_id)
    require_same(event, payment, "customer_id")
    require_ordered(event, payment.items)
    due = advance(payment, STOCK_REJECTED)
    return Decision(rows=(due,), intents=(refund_intent(due),))


@handles(RefundApproved, touches=_its_payment)
def refund_approved(rows: Rows, answer: RefundApproved) -> Decision:
    """The money is refunded: PaymentRefunded.

    Raises ContradictionError also if an operator has settled the refund before: the customer may then have the money
    twice, from the bank and in another way.
    """
    payment = payment_of(rows, answer.order_id)
    if payment.refund_reference == answer.reference:
        return Decision()
    if payment.refund_reference is not None:
        raise ContradictionError(f"refunded as {payment.refund_reference} and as {answer.reference}")
    return refunded(payment, REFUND_APPROVED, answer.reference)


@handles(RefundRefused, touches=_its_payment)
def refund_refused(rows: Rows, answer: RefundRefused) -> Decision:
    """The bank refuses the refund: RefundFailed. It is not asked any more."""
    payment = payment_of(rows, answer.order_id)
    if payment.status is PaymentStatus.REFUND_REFUSED or _is_settled(payment):
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


@handles(RefundUnknown, touches=_its_payment)
def refund_unknown(rows: Rows, answer: RefundUnknown) -> Decision:
    """No answer in time: ask again with the same key."""
    payment = payment_of(rows, answer.order_id)
    if payment.status is PaymentStatus.REFUND_DUE:
        return Decision(intents=(refund_intent(payment),))
    if payment.status in (PaymentStatus.REFUNDED, PaymentStatus.REFUND_REFUSED) or _is_settled(payment):
        return Decision()
    raise IllegalTransitionError(MACHINE.name, payment.status, REFUND_UNKNOWN)


def refunded(payment: Payment, event: str, reference: str) -> Decision:
    """All that was captured is refunded. Raises IllegalTransitionError."""
    back = advance(payment, event, refunded=payment.captured, refund_reference=reference, refund_refusal=None)
    published = PaymentRefunded(
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        currency=payment.currency,
        amount=payment.captured,
    )
    return Decision(rows=(back,), events=(published,))


def voided(payment: Payment) -> Decision:
    """A payment that an operator had settled as charged was not charged: there is nothing to refund."""
    void = advance(
        payment,
        SETTLED_AS_NOT_CHARGED,
        captured=0,
        charge_reference=None,
        reason=BY_OPERATOR,
        refund_refusal=None,
    )
    published = PaymentVoided(
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        currency=payment.currency,
        amount=payment.captured,
    )
    return Decision(rows=(void,), events=(published,))


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
    """Whether an operator has settled the refund, or that nothing was charged."""
    return BY_OPERATOR in (payment.refund_reference, payment.reason)


@handles(SettlePayment, touches=_its_payment)
def settle_payment(rows: Rows, command: SettlePayment) -> Decision:
    """Do what the bank's answer would have done; the bank is not asked any more. Repeating it changes nothing.

    Raises RefusedError if there is nothing to settle, or the bank has answered otherwise.
    """
    payment = payment_of(rows, command.order_id)
    if _is_settled_so(payment, command.outcome):
        return Decision(answer=_answer(payment, changed=False), result=f"{command.outcome}: {payment.status} before")
    decision = _settled(payment, command.outcome)
    [after] = decision.rows
    assert isinstance(after, Payment)
    return replace(decision, answer=_answer(after, changed=True), result=f"{command.outcome}: {after.status}")


def _settled(payment: Payment, outcome: SettlementOutcome) -> Decision:
    match outcome:
        case SettlementOutcome.CHARGED:
            _require(payment, OPEN_CHARGE, "charge")
            decision = captured(payment, SETTLED_AS_CHARGED, BY_OPERATOR)
            return replace(decision, closes=(charge_intent(payment).key,))
        case SettlementOutcome.NOT_CHARGED if payment.status in OPEN_REFUND:
            _require_only_said_to_be_charged(payment)
            return replace(voided(payment), closes=(refund_intent(payment).key,))
        case SettlementOutcome.NOT_CHARGED:
            _require(payment, OPEN_CHARGE, "charge")
            decision = declined(payment, SETTLED_AS_NOT_CHARGED, BY_OPERATOR)
            return replace(decision, closes=(charge_intent(payment).key,))
        case SettlementOutcome.REFUNDED:
            _require(payment, OPEN_REFUND, "refund")
            decision = refunded(payment, SETTLED_AS_REFUNDED, BY_OPERATOR)
            return replace(decision, closes=(refund_intent(payment).key,))
        case SettlementOutcome.ASK_AGAIN:
            _require(payment, (PaymentStatus.REFUND_REFUSED,), "refund")
            due = advance(payment, REFUND_ASKED_AGAIN, refund_refusal=None)
            return Decision(rows=(due,), intents=(refund_intent(due),))


def _require(payment: Payment, states: tuple[PaymentStatus, ...], what: str) -> None:
    if payment.status not in states:
        raise RefusedError(f"the {what} of order {payment.order_id} is not open: its payment is {payment.status}")


def _require_only_said_to_be_charged(payment: Payment) -> None:
    if payment.charge_reference != BY_OPERATOR:
        raise RefusedError(
            f"the bank has said that order {payment.order_id} was charged, as {payment.charge_reference}: "
            "it can be settled as refunded, once the customer has the money back"
        )


def _is_settled_so(payment: Payment, outcome: SettlementOutcome) -> bool:
    match outcome:
        case SettlementOutcome.CHARGED:
            return payment.charge_reference == BY_OPERATOR
        case SettlementOutcome.NOT_CHARGED:
            return payment.reason == BY_OPERATOR
        case SettlementOutcome.REFUNDED:
            return payment.refund_reference == BY_OPERATOR
        case SettlementOutcome.ASK_AGAIN:
            return payment.status is PaymentStatus.REFUND_DUE


def _answer(payment: Payment, *, changed: bool) -> PaymentSettled:
    return PaymentSettled(
        order_id=payment.order_id,
        status=payment.status,
        captured=payment.captured,
        refunded=payment.refunded,
        currency=payment.currency,
        changed=changed,
    )


def payment_of_key(key: str) -> tuple[Ref, ...]:
    """The payment's row of the order with this key."""
    order_id = order_id_of(key)
    return () if order_id is None else (Ref(Payment, order_id),)


def state_payment(rows: Rows, key: str) -> Statement:
    """The events that a payment stands for, and the intents that must be open.

    The events are whether the order was paid, and how its refund ended. That one has the last number, because the
    bank may have refused the refund several times before. Each event is made by the decision that first made it, over
    the row as it was then.
    """
    order_id = order_id_of(key)
    payment = None if order_id is None else rows.get(Payment, order_id)
    if payment is None:
        return Statement()
    asked = replace(payment, status=PaymentStatus.CHARGING)
    paid = _stated(captured(asked, CHARGE_APPROVED, ""), 1)
    due = replace(payment, status=PaymentStatus.REFUND_DUE, captured=payment.amount)
    match payment.status:
        case PaymentStatus.CHARGING | PaymentStatus.UNKNOWN:
            return Statement(intents=(charge_intent(payment),))
        case PaymentStatus.CAPTURED:
            return Statement(events=(paid,))
        case PaymentStatus.REFUND_DUE:
            return Statement(events=(paid,), intents=(refund_intent(payment),))
        case PaymentStatus.REFUND_REFUSED:
            return Statement(events=(paid, Stated(_refused(payment), 0)))
        case PaymentStatus.REFUNDED:
            return Statement(events=(paid, _stated(refunded(due, REFUND_APPROVED, ""), 0)))
        case PaymentStatus.DECLINED if payment.event == SETTLED_AS_NOT_CHARGED and payment.version >= VOIDED_FROM:
            return Statement(events=(paid, _stated(voided(due), 0)))
        case PaymentStatus.DECLINED:
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
