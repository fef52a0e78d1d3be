"""Orders as they were wanted, and as a service shows them."""

from __future__ import annotations

from typing import Any

from orderflow.chaos.client import APPROVED, INVALID, OrderToPlace, Placing, wanted

SEED = 5


def some(kind: str = APPROVED, *, key: bool = True) -> OrderToPlace:
    """The first order of that kind."""
    orders = (wanted(SEED, number) for number in range(1, 10_000))
    return next(each for each in orders if each.kind == kind and (each.key is not None) == key)


def placing_of(order: OrderToPlace, outcome: str, order_id: str = "") -> Placing:
    placing = Placing.of(order)
    placing.outcome, placing.order_id = outcome, order_id
    return placing


def shown(order: OrderToPlace, order_id: str = "A", **other: Any) -> dict[str, Any]:
    """As the service shows it at its end."""
    status, refund = ("FAILED", "none") if order.kind == INVALID else Placing.of(order).ends
    return {
        "id": order_id,
        "status": status,
        "refund": refund,
        "customer_id": order.customer,
        "currency": order.body["currency"],
        "total": order.total,
        "payment_method": order.body["payment_method"],
        **other,
    }
