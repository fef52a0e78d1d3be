"""The contract between the services: typed, versioned events and their topics. It knows no reader and no Kafka.

What the author of a service imports of it stands in `__all__`, under the rules of the front door (`orderflow`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.front_door import front_door

if TYPE_CHECKING:
    from orderflow.events.base import (
        INVENTORY_STATUS,
        ORDER_EVENTS,
        PAYMENT_STATUS,
        Customer,
        DisagreementError,
        OrderEvent,
        order_id_of,
        require_same,
    )
    from orderflow.events.currencies import CURRENCIES, format_amount
    from orderflow.events.inventory import (
        INVENTORY_EVENT_TYPES,
        MissingLine,
        ReservedLine,
        StockRejected,
        StockReserved,
        require_ordered,
    )
    from orderflow.events.money import Currency, Sku, Total
    from orderflow.events.order import (
        ITEMS_MAX,
        ORDER_EVENT_TYPES,
        QUANTITY_MAX,
        UNIT_PRICE_MAX,
        Item,
        OrderCompleted,
        OrderFailed,
        OrderFault,
        OrderPlaced,
        Quantity,
        fault_of_order,
    )
    from orderflow.events.payment import (
        PAYMENT_EVENT_TYPES,
        PaymentFailed,
        PaymentRefunded,
        PaymentSucceeded,
        PaymentVoided,
        RefundFailed,
    )

__all__ = [
    "CURRENCIES",
    "INVENTORY_EVENT_TYPES",
    "INVENTORY_STATUS",
    "ITEMS_MAX",
    "ORDER_EVENTS",
    "ORDER_EVENT_TYPES",
    "PAYMENT_EVENT_TYPES",
    "PAYMENT_STATUS",
    "QUANTITY_MAX",
    "UNIT_PRICE_MAX",
    "Currency",
    "Customer",
    "DisagreementError",
    "Item",
    "MissingLine",
    "OrderCompleted",
    "OrderEvent",
    "OrderFailed",
    "OrderFault",
    "OrderPlaced",
    "PaymentFailed",
    "PaymentRefunded",
    "PaymentSucceeded",
    "PaymentVoided",
    "Quantity",
    "RefundFailed",
    "ReservedLine",
    "Sku",
    "StockRejected",
    "StockReserved",
    "Total",
    "fault_of_order",
    "format_amount",
    "order_id_of",
    "require_ordered",
    "require_same",
]

_HOMES = {
    "orderflow.events.base": (
        "INVENTORY_STATUS ORDER_EVENTS PAYMENT_STATUS Customer DisagreementError OrderEvent order_id_of require_same"
    ),
    "orderflow.events.currencies": "CURRENCIES format_amount",
    "orderflow.events.inventory": (
        "INVENTORY_EVENT_TYPES MissingLine ReservedLine StockRejected StockReserved require_ordered"
    ),
    "orderflow.events.money": "Currency Sku Total",
    "orderflow.events.order": (
        "ITEMS_MAX ORDER_EVENT_TYPES QUANTITY_MAX UNIT_PRICE_MAX Item OrderCompleted OrderFailed OrderFault "
        "OrderPlaced Quantity fault_of_order"
    ),
    "orderflow.events.payment": (
        "PAYMENT_EVENT_TYPES PaymentFailed PaymentRefunded PaymentSucceeded PaymentVoided RefundFailed"
    ),
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = front_door(__name__, _HOMES)
