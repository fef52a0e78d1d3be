"""Read access to the payments, outside of decisions: for the API, and for alarms."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec

from orderflow import PERSONAL, Database, Record, ServiceContext, load_queries, view_of
from orderflow.services.payment.model import PaymentStatus

LAST = UUID(int=2**128 - 1)
COUNTED_MAX = 1_000
NAMED_MAX = 3


class PaymentView(msgspec.Struct, frozen=True, kw_only=True):
    """The payment of one order; amounts in minor units of `currency`. The references are the bank's.

    `refund_refusal` is why the bank refuses the refund, as long as that waits for an operator.
    """

    order_id: UUID
    customer_id: Annotated[str, PERSONAL]
    currency: str
    amount: int
    payment_method: Annotated[str, PERSONAL]
    status: PaymentStatus
    captured: int
    refunded: int
    reason: str | None
    charge_reference: str | None
    refund_reference: str | None
    refund_refusal: str | None
    created_at: datetime
    changed_at: datetime


class PaymentPage(msgspec.Struct, frozen=True, kw_only=True):
    """Payments, newest order first. `next` is the cursor of the page after this one, if there is one."""

    payments: tuple[PaymentView, ...]
    next: str | None


class RefusedRefunds(NamedTuple):
    """How many there are, counted no further than 1000, and the first of their orders."""

    refunds: int
    orders: tuple[UUID, ...]


class Payments:
    """Read access to the payments. Raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = load_queries("orderflow.services.payment")

    async def records(self, order_id: UUID) -> Mapping[str, Any]:
        """Every row of an order, by table, as JSON."""
        return dict((await self._database.fetch(self._queries["records_of_order"], order_id))[0])

    async def show(self, order_id: UUID) -> PaymentView | None:
        """The payment of an order, or None."""
        rows = await self._database.fetch(self._queries["show_payment"], order_id)
        return _view(rows[0]) if rows else None

    async def page(self, status: PaymentStatus | None, before: UUID | None, limit: int) -> PaymentPage:
        """Up to `limit` payments of orders placed before the order `before`, newest first."""
        match status:
            case None:
                query = "list_payments"
            case PaymentStatus.REFUND_REFUSED:
                query = "list_refused"
            case PaymentStatus.CHARGING | PaymentStatus.UNKNOWN | PaymentStatus.REFUND_DUE:
                query = "list_open"
            case _:
                query = "list_ended"
        rows = await self._database.fetch(self._queries[query], before or LAST, limit + 1, status)
        payments = tuple(_view(row) for row in rows[:limit])
        return PaymentPage(payments=payments, next=str(payments[-1].order_id) if len(rows) > limit else None)

    async def refused_refunds(self) -> RefusedRefunds:
        """The refunds that the bank refuses for good."""
        rows = await self._database.fetch(self._queries["refused_refunds"], COUNTED_MAX, NAMED_MAX)
        return RefusedRefunds(rows[0]["refunds"], tuple(rows[0]["orders"] or ()))


def _view(row: Record) -> PaymentView:
    return view_of(PaymentView, row, status=PaymentStatus(row["status"]))


async def alarms(context: ServiceContext) -> Mapping[str, str]:
    """A sentence for each alarm, by name; it changes only when the refunds do. Raises StoreUnavailableError."""
    count, orders = await Payments(context.database).refused_refunds()
    if not count:
        return {}
    refunds = f"{count}{' or more' if count >= COUNTED_MAX else ''} refund{'' if count == 1 else 's'}"
    named = ", ".join(map(str, orders)) + (", ..." if count > len(orders) else "")
    sentence = (
        f"{refunds} refused by the bank for good (order {named}): see them with "
        "`orderflow payment list --state refund_refused`, and settle each with `orderflow payment settle`"
    )
    return {"refunds": sentence}
