"""What the notification service hears, and of which events it tells the customer."""

from __future__ import annotations

from orderflow.events import (
    INVENTORY_EVENT_TYPES,
    PAYMENT_EVENT_TYPES,
    PaymentFailed,
    PaymentRefunded,
    PaymentVoided,
    StockRejected,
    StockReserved,
)

HEARD = (*PAYMENT_EVENT_TYPES, *INVENTORY_EVENT_TYPES)

OutcomeEvent = StockReserved | StockRejected | PaymentFailed | PaymentRefunded | PaymentVoided
