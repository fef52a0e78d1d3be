"""What a person sees of a run: a table of what runs where, and a first order to try."""

from __future__ import annotations

import json
from collections.abc import Sequence

from orderflow.local.reporter import Reporter
from orderflow.local.state import Running

FIRST_ORDER = {
    "customer_id": "ada",
    "currency": "EUR",
    "items": [{"sku": "SKU-ESPRESSO-CUP", "quantity": 2, "unit_price": 590}],
    "payment_method": "pm_card_visa",
}


def rows(processes: Sequence[Running]) -> list[tuple[str, str, str]]:
    """Name, address and process of each."""
    return [
        (
            process.name,
            process.address,
            f"process {process.pid}" + (f", {process.restarts} restarts" if process.restarts else ""),
        )
        for process in processes
    ]


def first_order(order_address: str) -> str:
    """A curl line that places an order and shows it when it is final."""
    body = json.dumps(FIRST_ORDER)
    return f"curl -s {order_address}/orders -H 'Content-Type: application/json' -d '{body}'"


def ready(
    reporter: Reporter, processes: Sequence[Running], home: str, carried_by: str, *, detached: bool = False
) -> None:
    """The table and what to try next."""
    reporter.table(f"Orderflow runs on {carried_by}; data in {home}", rows(processes))
    order = next((process for process in processes if process.name == "order"), None)
    if order is not None:
        reporter.note("\nPlace a first order:")
        reporter.note(f"  {first_order(order.address)}")
        reporter.note(f"and look at it:\n  curl -s '{order.address}/orders/ID?wait=5'")
    how = "`orderflow down`" if detached else "Ctrl-C"
    reporter.note(f"\n{how} stops everything.")
