"""What the inventory service says, on `inventory-status`."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from orderflow.events.base import OrderEvent, Text
from orderflow.events.order import Quantity
from orderflow.events.topics import INVENTORY_STATUS


class ReservedLine(msgspec.Struct, frozen=True, kw_only=True):
    """Units of one SKU that are set aside for the order."""

    sku: Text
    quantity: Quantity


class MissingLine(msgspec.Struct, frozen=True, kw_only=True):
    """A SKU of which not enough was free. An unknown SKU has 0 available."""

    sku: Text
    requested: int
    available: int


class StockReserved(OrderEvent, frozen=True, kw_only=True):
    """Every line of the order is set aside."""

    TYPE: ClassVar[str] = "orderflow.StockReserved"
    TOPIC: ClassVar[str] = INVENTORY_STATUS

    customer_id: Text
    lines: tuple[ReservedLine, ...]


class StockRejected(OrderEvent, frozen=True, kw_only=True):
    """At least one line cannot be served, so nothing was set aside. `missing` are the lines that lack."""

    TYPE: ClassVar[str] = "orderflow.StockRejected"
    TOPIC: ClassVar[str] = INVENTORY_STATUS

    customer_id: Text
    missing: tuple[MissingLine, ...]


INVENTORY_EVENT_TYPES: tuple[type[OrderEvent], ...] = (StockReserved, StockRejected)
