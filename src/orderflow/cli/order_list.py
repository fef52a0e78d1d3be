"""Lists of orders, read page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orderflow.cli.http import ServiceClient
from orderflow.cli.order_view import amount
from orderflow.cli.order_view import status as status_text
from orderflow.cli.tables import ident, table, when

if TYPE_CHECKING:
    from orderflow.cli.tables import Fitted

PAGE = 100


def read_orders(client: ServiceClient, status: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest orders first, at most `limit`. Raises CliError."""
    orders: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(orders) < limit:
        asked: dict[str, str | int] = {"limit": min(PAGE, limit - len(orders))}
        asked |= {name: value for name, value in (("status", status), ("cursor", cursor)) if value is not None}
        page = client.get("/orders", asked)
        orders += page["orders"]
        cursor = page["next"]
        if cursor is None:
            break
    return orders


def table_of(orders: list[dict[str, Any]]) -> Fitted:
    """For people."""
    return table(
        ("order", "placed", "status", "reason", "refund", "total", "customer"),
        [
            (
                ident(order["id"]),
                when(order["created_at"]),
                status_text(order["status"]),
                order["reason"],
                "" if order["refund"] == "none" else order["refund"],
                amount(order["total"], order["currency"]),
                order["customer_id"],
            )
            for order in orders
        ],
        right=("total",),
        drop=("customer", "refund", "reason", "placed"),
    )
