"""What callers of the order service see of an order."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from orderflow.events.order import Item
from orderflow.order.rows import Obstacle, Order, Refund, Status


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the history: `event` brought the order to `status`. `cause` is that event's id.

    A step of the refund says in `refund` how it stands since then, and leaves `status` and `version` as they are;
    `reason` is the bank's code where it refuses.
    """

    version: int
    status: Status
    event: str
    cause: UUID | None
    at: datetime
    refund: Refund | None = None
    reason: str | None = None


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order as it was placed. Amounts are in minor units of `currency`."""

    id: UUID
    status: Status
    customer_id: str
    currency: str
    items: tuple[Item, ...]
    total: int
    payment_method: str
    reason: str | None
    refund: Refund


class OrderDetails(OrderView, frozen=True, kw_only=True):
    """An order as it stands. `stuck` names each consumer at which it waits for an operator or another try."""

    created_at: datetime
    history: tuple[Step, ...]
    stuck: dict[str, Obstacle]
    stuck_since: datetime | None


class OrderSummary(OrderView, frozen=True, kw_only=True):
    """An order in a list."""

    created_at: datetime


class OrderPage(msgspec.Struct, frozen=True, kw_only=True):
    """Orders, newest first. `next` is the cursor of the page after this one, if there is one."""

    orders: tuple[OrderSummary, ...]
    next: str | None


def placed_body(order: Order) -> bytes:
    """The JSON by which placing is answered."""
    view = OrderView(
        id=order.order_id,
        status=order.status,
        customer_id=order.customer_id,
        currency=order.currency,
        items=order.items,
        total=order.total,
        payment_method=order.payment_method,
        reason=order.reason,
        refund=order.refund,
    )
    return msgspec.json.encode(view)
