"""What the inventory service says, on `inventory-status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec

from orderflow.events.base import INVENTORY_STATUS, Customer, OrderEvent, require_equal
from orderflow.events.money import Sku
from orderflow.events.order import ITEMS_MAX, Item, Quantity


class ReservedLine(msgspec.Struct, frozen=True, kw_only=True):
    """Units of one SKU that are set aside for the order."""

    sku: Sku
    quantity: Quantity


class MissingLine(msgspec.Struct, frozen=True, kw_only=True):
    """A SKU of which not enough was free. An unknown SKU has 0 available."""

    sku: Sku
    requested: Quantity
    available: Annotated[int, msgspec.Meta(ge=0)]

    def __post_init__(self) -> None:
        if self.available >= self.requested:
            raise ValueError(f"of {self.sku} {self.requested} are missing, and {self.available} are said to be free")


class StockReserved(OrderEvent, frozen=True, kw_only=True):
    """Every line of the order is set aside."""

    TYPE: ClassVar[str] = "orderflow.StockReserved"
    TOPIC: ClassVar[str] = INVENTORY_STATUS

    customer_id: Customer
    lines: Annotated[tuple[ReservedLine, ...], msgspec.Meta(min_length=1, max_length=ITEMS_MAX)]


class StockRejected(OrderEvent, frozen=True, kw_only=True):
    """At least one line cannot be served, so nothing was set aside. `missing` are the lines that lack."""

    TYPE: ClassVar[str] = "orderflow.StockRejected"
    TOPIC: ClassVar[str] = INVENTORY_STATUS

    customer_id: Customer
    missing: Annotated[tuple[MissingLine, ...], msgspec.Meta(min_length=1, max_length=ITEMS_MAX)]


INVENTORY_EVENT_TYPES: tuple[type[OrderEvent], ...] = (StockReserved, StockRejected)


def require_ordered(event: StockReserved | StockRejected, items: Sequence[Item]) -> None:
    """What is set aside must be all that was ordered, what is missing a part of it. Raises DisagreementError."""
    ordered = {item.sku: item.quantity for item in items}
    if isinstance(event, StockReserved):
        told = sorted((line.sku, line.quantity) for line in event.lines)
        require_equal(event, lines=(told, sorted(ordered.items())))
    else:
        told = sorted((line.sku, line.requested) for line in event.missing)
        require_equal(event, missing=(told, [(sku, ordered.get(sku, 0)) for sku in sorted(dict(told))]))
