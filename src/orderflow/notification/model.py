"""The notification's decisions: one notification an outcome. No row is read: the natural key keeps it to one."""

from __future__ import annotations

from orderflow.events.inventory import StockRejected, StockReserved
from orderflow.events.money import format_amount
from orderflow.events.payment import PaymentFailed, PaymentRefunded
from orderflow.messaging.decision import Decision
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.rows import Rows
from orderflow.notification.rows import Notification, NotifiedOutcome

OUT_OF_STOCK = "out_of_stock"


def stock_reserved(_: Rows, envelope: Envelope) -> Decision:
    """Paid and reserved: completed."""
    event = envelope.message
    assert isinstance(event, StockReserved)
    text = f"Your order {event.order_id} is complete and will be sent to you."
    return _notify(event, envelope, NotifiedOutcome.COMPLETED, None, text)


def payment_failed(_: Rows, envelope: Envelope) -> Decision:
    """Not paid: failed, for the bank's reason."""
    event = envelope.message
    assert isinstance(event, PaymentFailed)
    amount = format_amount(event.total, event.currency)
    text = f"Your order {event.order_id} failed: {amount} could not be charged ({event.reason})."
    return _notify(event, envelope, NotifiedOutcome.FAILED, event.reason, text)


def stock_rejected(_: Rows, envelope: Envelope) -> Decision:
    """Not in stock: failed."""
    event = envelope.message
    assert isinstance(event, StockRejected)
    skus = ", ".join(line.sku for line in event.missing)
    text = f"Your order {event.order_id} failed: out of stock ({skus}). Your money will be returned."
    return _notify(event, envelope, NotifiedOutcome.FAILED, OUT_OF_STOCK, text)


def payment_refunded(_: Rows, envelope: Envelope) -> Decision:
    """The money is back: refunded."""
    event = envelope.message
    assert isinstance(event, PaymentRefunded)
    amount = format_amount(event.amount, event.currency)
    text = f"{amount} for your order {event.order_id} were returned to you."
    return _notify(event, envelope, NotifiedOutcome.REFUNDED, None, text)


def _notify(
    event: StockReserved | StockRejected | PaymentFailed | PaymentRefunded,
    envelope: Envelope,
    outcome: NotifiedOutcome,
    reason: str | None,
    text: str,
) -> Decision:
    notification = Notification(
        order_id=event.order_id,
        outcome=outcome,
        customer_id=event.customer_id,
        reason=reason,
        text=text,
        cause=envelope.id,
    )
    return Decision(facts=(notification,))
