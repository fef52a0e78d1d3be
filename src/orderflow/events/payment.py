"""What the payment service says, on `payment-status`."""

from __future__ import annotations

from typing import ClassVar

from orderflow.events.base import PAYMENT_STATUS, Customer, OrderEvent, Text
from orderflow.events.money import Currency, Total
from orderflow.events.order import Items, MoneyEvent, require_sound


class PaymentSucceeded(OrderEvent, frozen=True, kw_only=True):
    """The order's total is captured. The items are for inventory, which reserves them now."""

    TYPE: ClassVar[str] = "orderflow.PaymentSucceeded"
    TOPIC: ClassVar[str] = PAYMENT_STATUS

    customer_id: Customer
    currency: Currency
    items: Items
    total: Total

    def __post_init__(self) -> None:
        require_sound(self.currency, self.items, self.total)


class PaymentFailed(MoneyEvent, frozen=True, kw_only=True):
    """The bank has refused for good; no money moved. `reason` is its decline code (`card_declined`)."""

    TYPE: ClassVar[str] = "orderflow.PaymentFailed"
    TOPIC: ClassVar[str] = PAYMENT_STATUS

    total: Total
    reason: Text


class PaymentRefunded(MoneyEvent, frozen=True, kw_only=True):
    """What had been captured was given back, because the stock was refused."""

    TYPE: ClassVar[str] = "orderflow.PaymentRefunded"
    TOPIC: ClassVar[str] = PAYMENT_STATUS

    amount: Total


class RefundFailed(MoneyEvent, frozen=True, kw_only=True):
    """The bank refuses for good to give the money back, and an operator has to see to it. `reason` is its code.

    It can happen again: an operator can have the bank asked once more.
    """

    TYPE: ClassVar[str] = "orderflow.RefundFailed"
    TOPIC: ClassVar[str] = PAYMENT_STATUS
    ONCE: ClassVar[bool] = False

    amount: Total
    reason: Text


class PaymentVoided(MoneyEvent, frozen=True, kw_only=True):
    """An operator had settled the charge as made, and it never was: of `amount` nothing has to be given back."""

    TYPE: ClassVar[str] = "orderflow.PaymentVoided"
    TOPIC: ClassVar[str] = PAYMENT_STATUS

    amount: Total


PAYMENT_EVENT_TYPES: tuple[type[OrderEvent], ...] = (
    PaymentSucceeded,
    PaymentFailed,
    PaymentRefunded,
    RefundFailed,
    PaymentVoided,
)
