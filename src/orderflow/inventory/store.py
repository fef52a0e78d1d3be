"""The inventory service's tables, and the questions asked of them outside of decisions."""

from __future__ import annotations

from orderflow.inventory.rows import Held, Movement, MovementKind, Reservation, Stock
from orderflow.inventory.views import MovementPage, MovementView, StockPage, StockView
from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.stores.postgres.tables import Facts, Table
from orderflow.runtime.definition import Database, Record

PACKAGE = "orderflow.inventory"
VERSION_MAX = 2**63 - 1


def tables() -> tuple[Table | Facts, ...]:
    """How rows and facts stand in the database, in the order in which they are written."""
    queries = load_queries(PACKAGE)
    return (
        Table(
            Stock,
            load=queries["load_stock"],
            insert=queries["insert_stock"],
            update=queries["update_stock"],
        ),
        Facts(Reservation, append=queries["append_reservations"]),
        Table(
            Held,
            load=queries["load_reservations"],
            update=queries["release_reservations"],
            changing=("order_id", "status", "released_by"),
        ),
        Facts(Movement, append=queries["append_movements"]),
    )


class Stocks:
    """Read access to the stock. Raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = load_queries(PACKAGE)

    async def is_empty(self) -> bool:
        """Whether no SKU was ever made."""
        rows = await self._database.fetch(self._queries["any_stock"])
        return not rows[0]["found"]

    async def show(self, sku: str) -> StockView | None:
        """The SKU as it stands, or None."""
        rows = await self._database.fetch(self._queries["show_stock"], sku)
        return _stock(rows[0]) if rows else None

    async def page(self, after: str, limit: int) -> StockPage:
        """Up to `limit` SKUs after the SKU `after`."""
        rows = await self._database.fetch(self._queries["list_stock"], after, limit + 1)
        stock = tuple(_stock(row) for row in rows[:limit])
        return StockPage(stock=stock, next=stock[-1].sku if len(rows) > limit else None)

    async def movements(self, sku: str, before: int | None, limit: int) -> MovementPage:
        """Up to `limit` movements of a SKU before its version `before`, newest first."""
        version = VERSION_MAX if before is None else before
        rows = await self._database.fetch(self._queries["list_movements"], sku, version, limit + 1)
        movements = tuple(_movement(row) for row in rows[:limit])
        following = str(movements[-1].version) if len(rows) > limit else None
        return MovementPage(sku=sku, movements=movements, next=following)


def _stock(row: Record) -> StockView:
    return StockView(
        sku=row["sku"],
        on_hand=row["on_hand"],
        reserved=row["reserved"],
        version=row["version"],
        changed_at=row["changed_at"],
    )


def _movement(row: Record) -> MovementView:
    return MovementView(
        version=row["version"],
        kind=MovementKind(row["kind"]),
        cause=row["cause"],
        on_hand_change=row["on_hand_change"],
        reserved_change=row["reserved_change"],
        at=row["at"],
    )
