"""What the order service says, on `order-events`."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from orderflow.events.base import OrderEvent, Text
from orderflow.events.money import Currency, MinorUnits
from orderflow.events.topics import ORDER_EVENTS

Quantity = Annotated[int, msgspec.Meta(ge=1)]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an order. `unit_price` is in minor units of the order's currency."""

    sku: Text
    quantity: Quantity
    unit_price: MinorUnits


class OrderPlaced(OrderEvent, frozen=True, kw_only=True):
    """A shop has ordered; nothing is paid yet. `total` is the sum over the items, in minor units."""

    TYPE: ClassVar[str] = "orderflow.OrderPlaced"
    TOPIC: ClassVar[str] = ORDER_EVENTS

    customer_id: Text
    currency: Currency
    items: tuple[Item, ...]
    total: MinorUnits
    payment_method: Text


class OrderCompleted(OrderEvent, frozen=True, kw_only=True):
    """Paid, and the stock is reserved: the end. For the outside world; no service of ours reads it."""

    TYPE: ClassVar[str] = "orderflow.OrderCompleted"
    TOPIC: ClassVar[str] = ORDER_EVENTS

    customer_id: Text
    currency: Currency
    total: MinorUnits


class OrderFailed(OrderEvent, frozen=True, kw_only=True):
    """The end of an order that was not paid or not in stock. For the outside world; no service of ours reads it.

    `reason` is the bank's decline code, or `out_of_stock`.
    """

    TYPE: ClassVar[str] = "orderflow.OrderFailed"
    TOPIC: ClassVar[str] = ORDER_EVENTS

    customer_id: Text
    reason: Text


ORDER_EVENT_TYPES: tuple[type[OrderEvent], ...] = (OrderPlaced, OrderCompleted, OrderFailed)
