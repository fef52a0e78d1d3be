"""What the notification service hears, and of which events it tells the customer."""

from __future__ import annotations

from orderflow.events.inventory import INVENTORY_EVENT_TYPES, StockRejected, StockReserved
from orderflow.events.payment import PAYMENT_EVENT_TYPES, PaymentFailed, PaymentRefunded, PaymentVoided

HEARD = (*PAYMENT_EVENT_TYPES, *INVENTORY_EVENT_TYPES)

OutcomeEvent = StockReserved | StockRejected | PaymentFailed | PaymentRefunded | PaymentVoided
