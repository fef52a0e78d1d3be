"""What the payment service says, on `payment-status`."""

from __future__ import annotations

from typing import ClassVar

from orderflow.events.base import OrderEvent, Text
from orderflow.events.money import Currency, MinorUnits
from orderflow.events.order import Item
from orderflow.events.topics import PAYMENT_STATUS


class PaymentSucceeded(OrderEvent, frozen=True, kw_only=True):
    """The order's total is captured. The items are for inventory, which reserves them now."""

    TYPE: ClassVar[str] = "orderflow.PaymentSucceeded"
    TOPIC: ClassVar[str] = PAYMENT_STATUS

    customer_id: Text
    currency: Currency
    items: tuple[Item, ...]
    total: MinorUnits


class PaymentFailed(OrderEvent, frozen=True, kw_only=True):
    """The bank has refused for good; no money moved. `reason` is its decline code (`card_declined`)."""

    TYPE: ClassVar[str] = "orderflow.PaymentFailed"
    TOPIC: ClassVar[str] = PAYMENT_STATUS

    customer_id: Text
    currency: Currency
    total: MinorUnits
    reason: Text


class PaymentRefunded(OrderEvent, frozen=True, kw_only=True):
    """What had been captured was given back, because the stock was refused."""

    TYPE: ClassVar[str] = "orderflow.PaymentRefunded"
    TOPIC: ClassVar[str] = PAYMENT_STATUS

    customer_id: Text
    currency: Currency
    amount: MinorUnits


PAYMENT_EVENT_TYPES: tuple[type[OrderEvent], ...] = (PaymentSucceeded, PaymentFailed, PaymentRefunded)
