"""Read access to the orders, outside of decisions, and the removal of old idempotency keys."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from orderflow import PERSONAL, Database, Record, ServiceContext, load_queries, view_of
from orderflow.events import Item
from orderflow.services.order.model import ORDER_PLACED, Obstacle, OrderStatus, Refund

FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)
PIECE = 20_000
AT_ONCE = 1_000
LOOKED_MAX = 20_000
COUNTED_MAX = 10_000
SAMPLE_MAX = 1_000


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the history: `event` brought the order to `status`. `cause` is that event's id.

    A step of the refund says in `refund` how it stands since then, and leaves `status` and `version` as they are;
    `reason` is the bank's code where it refuses.
    """

    version: int
    status: OrderStatus
    event: str
    cause: UUID | None
    at: datetime
    refund: Refund | None = None
    reason: str | None = None


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order as it was placed. Amounts are in minor units of `currency`."""

    id: UUID
    status: OrderStatus
    customer_id: Annotated[str, PERSONAL]
    currency: str
    items: tuple[Item, ...]
    total: int
    payment_method: Annotated[str, PERSONAL]
    reason: str | None
    refund: Refund


class OrderDetails(OrderView, frozen=True, kw_only=True):
    """An order as it stands, and the shop whose token placed it. `stuck` names each consumer at which it waits for an
    operator or another try.
    """

    shop: str | None = None
    created_at: datetime
    history: tuple[Step, ...]
    stuck: dict[str, Obstacle]
    stuck_since: datetime | None


class OrderSummary(OrderView, frozen=True, kw_only=True):
    """An order in a list, and the shop whose token placed it."""

    shop: str | None = None
    created_at: datetime


class OrderPage(msgspec.Struct, frozen=True, kw_only=True):
    """Orders, newest first. `next` is the cursor of the page after this one, if there is one."""

    orders: tuple[OrderSummary, ...]
    next: str | None


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """How many orders are in a state, and when the oldest of them was placed."""

    status: OrderStatus
    orders: int
    oldest: datetime


class Dwell(msgspec.Struct, frozen=True, kw_only=True):
    """How long orders were in a state that `event` has ended: the median, and what 95 % did not exceed."""

    status: OrderStatus
    event: str
    orders: int
    median_ms: int
    slow_ms: int


class OrderStates(msgspec.Struct, frozen=True, kw_only=True):
    """Orders that are under way, counted no further than `counted_max`, and how long the newest `sample_max` orders
    were in each state.
    """

    unfinished: tuple[Unfinished, ...]
    dwell: tuple[Dwell, ...]
    counted_max: int = COUNTED_MAX
    sample_max: int = SAMPLE_MAX


class StoredRefund(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a refund, as the query gives it."""

    version: int
    refund: Refund
    event: str
    reason: str | None
    cause: UUID
    at: datetime


class Orders:
    """Read access to the orders, and the removal of old idempotency keys. Raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = load_queries("orderflow.services.order")
        self._history = msgspec.json.Decoder(tuple[Step, ...])
        self._refunds = msgspec.json.Decoder(tuple[StoredRefund, ...])
        self._items = msgspec.json.Decoder(tuple[Item, ...])
        self._stuck = msgspec.json.Decoder(dict[str, Obstacle])

    async def records(self, order_id: UUID) -> Mapping[str, Any]:
        """Every row of an order, by table, as JSON."""
        return dict((await self._database.fetch(self._queries["records_of_order"], order_id))[0])

    async def show(self, order_id: UUID, shop: str | None = None) -> OrderDetails | None:
        """The order as it stands, or None; of this `shop` alone, where one is named."""
        rows = await self._database.fetch(self._queries["show_order"], order_id)
        if not rows or (shop is not None and rows[0]["shop"] != shop):
            return None
        row = rows[0]
        placed = Step(version=1, status=OrderStatus.PENDING, event=ORDER_PLACED, cause=None, at=row["created_at"])
        steps = self._history.decode(row["history"]) if row["history"] is not None else ()
        refunds = self._refunds.decode(row["refunds"]) if row["refunds"] is not None else ()
        stuck = self._stuck.decode(row["stuck"]) if row["stuck"] is not None else {}
        return view_of(
            OrderDetails,
            row,
            **self._converted(row),
            history=with_refunds((placed, *steps), refunds),
            stuck=stuck,
            stuck_since=row["stuck_since"] if stuck else None,
        )

    async def page(
        self, status: OrderStatus | None, before: UUID | None, limit: int, shop: str | None = None
    ) -> OrderPage:
        """Up to `limit` orders placed before the order `before`, newest first; of this `shop`, if one is named."""
        of_shop: tuple[str, ...] = ()
        query = {
            None: "list_orders",
            OrderStatus.PENDING: "list_unfinished",
            OrderStatus.PAID: "list_unfinished",
            OrderStatus.COMPLETED: "list_completed",
            OrderStatus.FAILED: "list_failed",
        }[status]
        if shop is not None:
            query, of_shop = "list_of_shop", (shop,)
        rows = await self._database.fetch(self._queries[query], before or LAST, limit + 1, status, *of_shop)
        return self._page(rows, limit)

    async def oldest_unfinished(self, after: UUID | None, limit: int, shop: str | None = None) -> OrderPage:
        """Up to `limit` orders that have not ended, placed after the order `after`, oldest first."""
        query = self._queries["list_oldest_unfinished"]
        rows = await self._database.fetch(query, after or FIRST, limit + 1, shop)
        return self._page(rows, limit)

    async def search(
        self,
        customers: Sequence[str] | None,
        sku: str | None,
        status: OrderStatus | None,
        before: UUID | None,
        limit: int,
        shop: str | None = None,
    ) -> OrderPage:
        """Up to `limit` orders among the next `LOOKED_MAX` before `before`, newest first; `next` goes on there."""
        wanted = (before or LAST, customers, sku, status, LOOKED_MAX, limit + 1, shop)
        rows = await self._database.fetch(self._queries["find_orders"], *wanted)
        until: UUID | None = rows[0]["looked_until"]
        found = [self._summary(row) for row in rows if row["order_id"] is not None]
        if len(found) > limit:
            found, until = found[:limit], found[limit - 1].id
        return OrderPage(orders=tuple(found), next=None if until is None else to_cursor(until))

    async def states(self) -> OrderStates:
        """What is under way, and how long it takes."""
        unfinished = await self._database.fetch(self._queries["unfinished_by_status"], COUNTED_MAX)
        dwell = await self._database.fetch(self._queries["dwell_times"], SAMPLE_MAX)
        return OrderStates(
            unfinished=tuple(view_of(Unfinished, row, status=OrderStatus(row["status"])) for row in unfinished),
            dwell=tuple(
                Dwell(
                    status=OrderStatus(row["status"]),
                    event=row["event"],
                    orders=row["orders"],
                    median_ms=round(row["median"].total_seconds() * 1000),
                    slow_ms=round(row["slow"].total_seconds() * 1000),
                )
                for row in dwell
            ),
        )

    async def ending(self, digits: str, limit: int, shop: str | None = None) -> OrderPage:
        """Orders whose id ends with these hexadecimal digits, among the newest million; of this `shop`, if named."""
        query, of_shop = ("list_ending", ()) if shop is None else ("list_ending_of_shop", (shop,))
        rows = await self._database.fetch(self._queries[query], digits, limit, *of_shop)
        return OrderPage(orders=tuple(self._summary(row) for row in rows), next=None)

    async def finished_among(self, order_ids: Collection[UUID]) -> set[UUID]:
        """Those that are COMPLETED or FAILED."""
        rows = await self._database.fetch(self._queries["finished_among"], list(order_ids))
        return {row["order_id"] for row in rows}

    async def count_unfinished(self, at_most: int) -> int:
        """How many are PENDING or PAID; the count stops at `at_most`."""
        rows = await self._database.fetch(self._queries["count_unfinished"], at_most)
        count: int = rows[0]["unfinished"]
        return count

    async def of_customers(
        self, written_as: Collection[str], shop: str | None, after: UUID | None
    ) -> tuple[Sequence[UUID], UUID | None]:
        """Of the next orders after `after`, in order of id, those of a shop's customers that are written so, and the
        last that was looked at: None when there are no more.
        """
        found = (list(written_as), after or FIRST, PIECE, shop)
        rows = await self._database.fetch(self._queries["orders_of_customers"], *found)
        return rows[0]["orders"], rows[0]["last"]

    async def purge_keys(self, older_than_s: float, at_most: int) -> int:
        """Forget idempotency keys; returns how many were forgotten."""
        rows = await self._database.fetch(self._queries["purge_keys"], older_than_s, at_most)
        purged: int = rows[0]["purged"]
        return purged

    def _page(self, rows: Sequence[Record], limit: int) -> OrderPage:
        """Of a query that was asked for one more."""
        orders = tuple(self._summary(row) for row in rows[:limit])
        return OrderPage(orders=orders, next=to_cursor(orders[-1].id) if len(rows) > limit else None)

    def _summary(self, row: Record) -> OrderSummary:
        return view_of(OrderSummary, row, **self._converted(row))

    def _converted(self, row: Record) -> Mapping[str, Any]:
        status, refund = OrderStatus(row["status"]), Refund(row["refund"])
        return {"id": row["order_id"], "status": status, "refund": refund, "items": self._items.decode(row["items"])}


def with_refunds(steps: Sequence[Step], refunds: Sequence[StoredRefund]) -> tuple[Step, ...]:
    """The steps of the refund among those of the order, each behind the one that made the version it was at."""
    found: list[Step] = []
    for step in steps:
        found.append(step)
        found += (
            Step(
                version=each.version,
                status=step.status,
                event=each.event,
                cause=each.cause,
                at=each.at,
                refund=each.refund,
                reason=each.reason,
            )
            for each in refunds
            if each.version == step.version
        )
    return tuple(found)


CURSOR_PATTERN = "^[A-Za-z0-9_-]{21}[AQgw]$"
"""Every text that `to_cursor` makes, and no other."""


def to_cursor(order_id: UUID) -> str:
    """The opaque text that stands for "after this order"."""
    return urlsafe_b64encode(order_id.bytes).rstrip(b"=").decode()


def from_cursor(cursor: str) -> UUID:
    """Raises ValueError for a text that `to_cursor` did not make."""
    raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    if len(raw) != 16 or to_cursor(order_id := UUID(bytes=raw)) != cursor:
        raise ValueError("not a cursor of this list")
    return order_id


async def forget_old_keys(context: ServiceContext) -> None:
    """Remove what is older than `idempotency_keep_s`. Raises StoreUnavailableError."""
    orders = Orders(context.database)
    purged = AT_ONCE
    while purged == AT_ONCE:
        purged = await orders.purge_keys(context.config.idempotency_keep_s, AT_ONCE)
