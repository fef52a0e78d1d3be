"""The events that the notification service reads, and those of which it notifies the customer."""

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
