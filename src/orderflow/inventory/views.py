"""What callers of the inventory service see."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from orderflow.inventory.rows import MovementKind


class StockView(msgspec.Struct, frozen=True, kw_only=True):
    """One SKU: units that are free, and units that are set aside for orders."""

    sku: str
    on_hand: int
    reserved: int
    version: int
    changed_at: datetime


class StockPage(msgspec.Struct, frozen=True, kw_only=True):
    """SKUs in order. `next` is the cursor of the page after this one, if there is one."""

    stock: tuple[StockView, ...]
    next: str | None


class MovementView(msgspec.Struct, frozen=True, kw_only=True):
    """One change. `cause` is the order's id (`reserve`) or the request's (`set`)."""

    version: int
    kind: MovementKind
    cause: UUID
    on_hand_change: int
    reserved_change: int
    at: datetime


class MovementPage(msgspec.Struct, frozen=True, kw_only=True):
    """Movements of one SKU, newest first. `next` is the cursor of the page after this one, if there is one."""

    sku: str
    movements: tuple[MovementView, ...]
    next: str | None
