"""The payment service's tables, and the questions asked of them outside of decisions."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.stores.postgres.tables import Facts, Table
from orderflow.payment.rows import Payment, Status
from orderflow.payment.views import PaymentPage, PaymentView
from orderflow.runtime.definition import Database

PACKAGE = "orderflow.payment"
LAST = UUID(int=2**128 - 1)
COUNTED_MAX = 1_000
NAMED_MAX = 3
CHANGING = (
    "order_id",
    "status",
    "version",
    "event",
    "captured",
    "refunded",
    "reason",
    "charge_reference",
    "refund_reference",
    "refund_refusal",
)


def tables() -> tuple[Table | Facts, ...]:
    """How rows stand in the database."""
    queries = load_queries(PACKAGE)
    return (
        Table(
            Payment,
            load=queries["load_payments"],
            insert=queries["insert_payments"],
            update=queries["update_payments"],
            stepwise=True,
            changing=CHANGING,
        ),
    )


class RefusedRefunds(NamedTuple):
    """How many there are, counted no further than 1000, and the first of their orders."""

    refunds: int
    orders: tuple[UUID, ...]


class Payments:
    """Read access to the payments. Raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = load_queries(PACKAGE)

    async def show(self, order_id: UUID) -> PaymentView | None:
        """The payment of an order, or None."""
        rows = await self._database.fetch(self._queries["show_payment"], order_id)
        return PaymentView.from_record(rows[0]) if rows else None

    async def page(self, status: Status | None, before: UUID | None, limit: int) -> PaymentPage:
        """Up to `limit` payments of orders placed before the order `before`, newest first."""
        match status:
            case None:
                query = "list_payments"
            case Status.REFUND_REFUSED:
                query = "list_refused"
            case Status.CHARGING | Status.UNKNOWN | Status.REFUND_DUE:
                query = "list_open"
            case _:
                query = "list_ended"
        rows = await self._database.fetch(self._queries[query], before or LAST, limit + 1, status)
        payments = tuple(PaymentView.from_record(row) for row in rows[:limit])
        return PaymentPage(payments=payments, next=str(payments[-1].order_id) if len(rows) > limit else None)

    async def refused_refunds(self) -> RefusedRefunds:
        """The refunds that the bank refuses for good."""
        rows = await self._database.fetch(self._queries["refused_refunds"], COUNTED_MAX, NAMED_MAX)
        return RefusedRefunds(rows[0]["refunds"], tuple(rows[0]["orders"] or ()))
