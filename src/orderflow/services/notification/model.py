"""The decisions of the notification service: one notification per outcome of an order.

No row is read. The natural keys allow one notification per outcome, and one final outcome per order.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, NamedTuple
from uuid import UUID

from orderflow import Decision, Envelope, Fact, Rows, handles
from orderflow.events import (
    PaymentFailed,
    PaymentRefunded,
    PaymentVoided,
    StockRejected,
    StockReserved,
    format_amount,
)
from orderflow.services.notification.messages import OutcomeEvent

OUT_OF_STOCK = "out_of_stock"


class NotifiedOutcome(StrEnum):
    """The outcomes of which a customer is notified."""

    COMPLETED = "completed"
    FAILED = "failed"
    REFUNDED = "refunded"
    NOT_CHARGED = "not_charged"


class Notification(Fact, frozen=True, kw_only=True):
    """A customer's notification of one outcome of one order. An order has one final outcome: completed or failed."""

    TABLE: ClassVar[str] = "notifications"

    order_id: UUID
    outcome: NotifiedOutcome
    customer_id: str
    reason: str | None
    text: str
    cause: UUID

    @property
    def id(self) -> tuple[UUID, str]:
        is_end = self.outcome in (NotifiedOutcome.COMPLETED, NotifiedOutcome.FAILED)
        return (self.order_id, "end" if is_end else self.outcome)


class Told(NamedTuple):
    """What a customer is told."""

    outcome: NotifiedOutcome
    reason: str | None
    text: str


@handles(StockReserved, StockRejected, PaymentFailed, PaymentRefunded, PaymentVoided)
def notify(_: Rows, event: OutcomeEvent, envelope: Envelope) -> Decision:
    """Make one notification of the order's outcome."""
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
    """What to tell the customer of an event: completed, failed (declined or out of stock), refunded, or not
    charged.
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
