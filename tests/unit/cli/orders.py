"""Orders as the order service tells them."""

from __future__ import annotations

from typing import Any

from tests.support.shop import Asked, Says
from tests.unit.cli.calls import ORDER_ID

STEPS = (
    ("PENDING", "OrderPlaced", "2026-01-02T03:04:05Z"),
    ("PAID", "PaymentSucceeded", "2026-01-02T03:04:05.020Z"),
    ("COMPLETED", "StockReserved", "2026-01-02T03:04:05.050Z"),
)
FAILED_STEP = ("FAILED", "StockRejected", "2026-01-02T03:04:05.050Z")


def order(steps: int = 3, **changes: Any) -> dict[str, Any]:
    """An order after so many steps."""
    history = [
        {"version": number + 1, "status": status, "event": event, "cause": ORDER_ID if number else None, "at": at}
        for number, (status, event, at) in enumerate(STEPS[:steps])
    ]
    found: dict[str, Any] = {
        "id": ORDER_ID,
        "status": history[-1]["status"],
        "customer_id": "ada",
        "currency": "EUR",
        "items": [{"sku": "SKU-A", "quantity": 2, "unit_price": 1250}],
        "total": 2500,
        "payment_method": "pm_card_visa",
        "reason": None,
        "refund": "none",
        "created_at": STEPS[0][2],
        "history": history,
        "stuck": {},
        "stuck_since": None,
    }
    return {**found, **changes}


REFUND_EVENTS = {"due": "StockRejected", "refused": "RefundFailed", "done": "PaymentRefunded"}


def failed(*refunds: str) -> dict[str, Any]:
    """An order that was paid and then not in stock, and the steps of its refund."""
    status, event, at = FAILED_STEP
    step = {"version": 3, "status": status, "event": event, "cause": ORDER_ID, "at": at}
    steps = [{**step, "refund": each, "event": REFUND_EVENTS[each]} for each in refunds]
    history = [*order(2)["history"], step, *steps]
    refund = refunds[-1]
    return order(2, status=status, reason="out_of_stock", refund=refund, history=history)


def problem(status: int, detail: str, **more: Any) -> Says:
    """A problem document (RFC 9457)."""
    headers = {"retry-after": "2"} if status == 503 else {}
    return Says(
        status, {"status": status, "title": "Title", "type": "about:blank", "detail": detail, **more}, headers
    )


class Life:
    """Answers POST with the first of these orders, and each GET with the next one, the last one for ever."""

    def __init__(self, *orders: dict[str, Any]) -> None:
        self.orders = list(orders)

    def __call__(self, asked: Asked) -> Says:
        if asked.method == "POST":
            return Says(201, self.orders[0])
        return Says(200, self.orders.pop(0) if len(self.orders) > 1 else self.orders[0])
