"""The topics that the services write and read."""

from __future__ import annotations

from orderflow.messaging.flow import FLOW_STATUS

ORDER_EVENTS = "order-events"
PAYMENT_STATUS = "payment-status"
INVENTORY_STATUS = "inventory-status"

TOPICS: tuple[str, ...] = (ORDER_EVENTS, PAYMENT_STATUS, INVENTORY_STATUS, FLOW_STATUS)
