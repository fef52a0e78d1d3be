"""The stock that the demo orders from."""

from __future__ import annotations

from orderflow.cli.http import ServiceClient
from orderflow.load.catalogue import PRICES, SOLD_OUT_SKU

UNITS_AN_ORDER = 3
PLENTY = 1_000_000
ON_HAND_MAX = 1_000_000_000
PAGE = 500


def prepare(inventory: ServiceClient, orders: int) -> int:
    """Put in the SKUs of the demo catalogue that are missing or run short; returns how many that were.

    The one that is sold out stays so, and is made if it is missing. Raises CliError.
    """
    on_hand = _read(inventory)
    needed = min(orders * UNITS_AN_ORDER, ON_HAND_MAX)
    short = [sku for sku in PRICES if on_hand.get(sku, 0) < needed]
    for sku in short:
        inventory.ask("PUT", f"/stock/{sku}", body={"on_hand": max(PLENTY, needed)})
    if SOLD_OUT_SKU not in on_hand:
        inventory.ask("PUT", f"/stock/{SOLD_OUT_SKU}", body={"on_hand": 0})
    return len(short)


def _read(inventory: ServiceClient) -> dict[str, int]:
    found: dict[str, int] = {}
    cursor: str | None = ""
    while cursor is not None:
        asked: dict[str, str | int] = {"limit": PAGE}
        page = inventory.get("/stock", {**asked, "cursor": cursor} if cursor else asked)
        found |= {stock["sku"]: stock["on_hand"] for stock in page["stock"]}
        cursor = page["next"]
    return found
