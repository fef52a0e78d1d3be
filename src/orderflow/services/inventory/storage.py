"""Read access to the stock, outside of decisions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from orderflow import Database, load_queries, view_of
from orderflow.services.inventory.model import MovementKind

VERSION_MAX = 2**63 - 1


class StockView(msgspec.Struct, frozen=True, kw_only=True):
    """One SKU: its free units, and those reserved for orders."""

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


class Stocks:
    """Read access to the stock. Raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = load_queries("orderflow.services.inventory")

    async def records(self, order_id: UUID) -> Mapping[str, Any]:
        """Every row of an order, by table, as JSON."""
        return dict((await self._database.fetch(self._queries["records_of_order"], order_id))[0])

    async def is_empty(self) -> bool:
        """Whether no SKU was ever made."""
        rows = await self._database.fetch(self._queries["any_stock"])
        return not rows[0]["found"]

    async def show(self, sku: str) -> StockView | None:
        """The SKU as it stands, or None."""
        rows = await self._database.fetch(self._queries["show_stock"], sku)
        return view_of(StockView, rows[0]) if rows else None

    async def page(self, after: str, limit: int) -> StockPage:
        """Up to `limit` SKUs after the SKU `after`."""
        rows = await self._database.fetch(self._queries["list_stock"], after, limit + 1)
        stock = tuple(view_of(StockView, row) for row in rows[:limit])
        return StockPage(stock=stock, next=stock[-1].sku if len(rows) > limit else None)

    async def movements(self, sku: str, before: int | None, limit: int) -> MovementPage:
        """Up to `limit` movements of a SKU before its version `before`, newest first."""
        version = VERSION_MAX if before is None else before
        rows = await self._database.fetch(self._queries["list_movements"], sku, version, limit + 1)
        movements = tuple(view_of(MovementView, row, kind=MovementKind(row["kind"])) for row in rows[:limit])
        following = str(movements[-1].version) if len(rows) > limit else None
        return MovementPage(sku=sku, movements=movements, next=following)
