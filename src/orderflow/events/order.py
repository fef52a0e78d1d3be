"""What the order service says, on `order-events`, and what an order may be, whoever tells of it."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Annotated, ClassVar, NamedTuple

import msgspec

from orderflow.events.base import ORDER_EVENTS, Customer, OrderEvent, Text
from orderflow.events.currencies import CURRENCIES, KNOWN_CURRENCIES, not_payable, require_known
from orderflow.events.money import Currency, Sku, Total

UNIT_PRICE_MAX = 1_000_000_000
QUANTITY_MAX = 10_000
ITEMS_MAX = 100

Quantity = Annotated[int, msgspec.Meta(ge=1, le=QUANTITY_MAX)]
UnitPrice = Annotated[int, msgspec.Meta(ge=0, le=UNIT_PRICE_MAX)]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an order. `unit_price` is in minor units of the order's currency."""

    sku: Sku
    quantity: Quantity
    unit_price: UnitPrice


Items = Annotated[tuple[Item, ...], msgspec.Meta(min_length=1, max_length=ITEMS_MAX)]


class OrderFault(NamedTuple):
    """What is wrong with an order, and where: a JSON pointer (RFC 6901)."""

    pointer: str
    detail: str


def fault_of_order(
    currency: str, items: Sequence[Item], currencies: Container[str] = CURRENCIES
) -> OrderFault | None:
    """What no single field of an order can say; None when it is sound.

    A SKU may stand in one line only: two lines of one SKU could have two prices, and merging them would
    be a guess. A line may be free of charge, an order may not.
    """
    if currency not in currencies:
        return OrderFault("/currency", not_payable(currency))
    if len(items) > 1:
        seen: set[str] = set()
        for index, item in enumerate(items):
            if item.sku in seen:
                return OrderFault(f"/items/{index}/sku", f"{item.sku!r} stands in an earlier line already")
            seen.add(item.sku)
    if not any(item.unit_price for item in items):
        return OrderFault("/items", "the total must be at least 1 minor unit")
    return None


def require_sound(currency: str, items: Sequence[Item], total: int) -> None:
    """Raises ValueError: no shop could have ordered this, or the total is not what the items add up to.

    On the way of every order, several times: what holds for most is seen first. A `total` is at least 1 by its type.
    """
    added = 0
    for item in items:
        added += item.quantity * item.unit_price
    if added != total:
        raise ValueError(f"/total: it is {total}, and the items add up to {added}")
    if currency in KNOWN_CURRENCIES and len(items) == 1:
        return
    fault = fault_of_order(currency, items, KNOWN_CURRENCIES)
    if fault is not None:
        raise ValueError(f"{fault.pointer}: {fault.detail}")


class MoneyEvent(OrderEvent, frozen=True, kw_only=True):
    """What is said of an amount of a customer's order, in a currency that there is."""

    customer_id: Customer
    currency: Currency

    def __post_init__(self) -> None:
        require_known(self.currency)


class OrderPlaced(OrderEvent, frozen=True, kw_only=True):
    """A shop has ordered; nothing is paid yet. `total` is the sum over the items, in minor units."""

    TYPE: ClassVar[str] = "orderflow.OrderPlaced"
    TOPIC: ClassVar[str] = ORDER_EVENTS

    customer_id: Customer
    currency: Currency
    items: Items
    total: Total
    payment_method: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]

    def __post_init__(self) -> None:
        require_sound(self.currency, self.items, self.total)


class OrderCompleted(MoneyEvent, frozen=True, kw_only=True):
    """Paid, and the stock is reserved: the end. For the outside world; no service of ours reads it."""

    TYPE: ClassVar[str] = "orderflow.OrderCompleted"
    TOPIC: ClassVar[str] = ORDER_EVENTS

    total: Total


class OrderFailed(OrderEvent, frozen=True, kw_only=True):
    """The end of an order that was not paid or not in stock. For the outside world; no service of ours reads it.

    `reason` is the bank's decline code, or `out_of_stock`.
    """

    TYPE: ClassVar[str] = "orderflow.OrderFailed"
    TOPIC: ClassVar[str] = ORDER_EVENTS

    customer_id: Customer
    reason: Text


ORDER_EVENT_TYPES: tuple[type[OrderEvent], ...] = (OrderPlaced, OrderCompleted, OrderFailed)
