"""The notification's decisions: one notification an outcome.

No row is read, so there is nothing to compare an event with but what was told of its order before: the natural keys
keep an outcome to one notification, and an order to one end.
"""

from __future__ import annotations

from typing import NamedTuple

from orderflow.events.currencies import format_amount
from orderflow.events.inventory import StockRejected, StockReserved
from orderflow.events.payment import PaymentFailed, PaymentRefunded, PaymentVoided
from orderflow.messaging.decision import Decision
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.rows import Rows
from orderflow.notification.rows import Notification, NotifiedOutcome

OUT_OF_STOCK = "out_of_stock"

OutcomeEvent = StockReserved | StockRejected | PaymentFailed | PaymentRefunded | PaymentVoided


class Told(NamedTuple):
    """What a customer is told."""

    outcome: NotifiedOutcome
    reason: str | None
    text: str


def notify(_: Rows, envelope: Envelope) -> Decision:
    """One notification of what has become of the order."""
    event = envelope.message
    assert isinstance(event, OutcomeEvent)
    told = told_of(event)
    notification = Notification(
        order_id=event.order_id,
        outcome=told.outcome,
        customer_id=event.customer_id,
        reason=told.reason,
        text=told.text,
        cause=envelope.id,
    )
    return Decision(facts=(notification,))


def told_of(event: OutcomeEvent) -> Told:
    """Completed once it is paid and reserved; failed for the bank's reason, or for want of stock; then refunded, or
    found not to have been charged.
    """
    match event:
        case StockReserved():
            text = f"Your order {event.order_id} is complete and will be sent to you."
            return Told(NotifiedOutcome.COMPLETED, None, text)
        case PaymentFailed():
            amount = format_amount(event.total, event.currency)
            text = f"Your order {event.order_id} failed: {amount} could not be charged ({event.reason})."
            return Told(NotifiedOutcome.FAILED, event.reason, text)
        case StockRejected():
            skus = ", ".join(line.sku for line in event.missing)
            text = f"Your order {event.order_id} failed: out of stock ({skus}). Your money will be returned."
            return Told(NotifiedOutcome.FAILED, OUT_OF_STOCK, text)
        case PaymentRefunded():
            amount = format_amount(event.amount, event.currency)
            text = f"{amount} for your order {event.order_id} were returned to you."
            return Told(NotifiedOutcome.REFUNDED, None, text)
        case PaymentVoided():
            text = f"Nothing was charged for your order {event.order_id}, so nothing has to be returned to you."
            return Told(NotifiedOutcome.NOT_CHARGED, None, text)
