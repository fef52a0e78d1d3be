"""The demo catalogue: something to order on a first start."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from orderflow.inventory.messages import SetStock
from orderflow.inventory.store import Stocks
from orderflow.runtime.definition import ServiceContext

PLENTY = 1_000_000

DEMO_CATALOGUE: Mapping[str, int] = MappingProxyType(
    {
        "SKU-BREAD-KNIFE": PLENTY,
        "SKU-CAST-IRON-PAN": PLENTY,
        "SKU-COFFEE-BEANS-1KG": PLENTY,
        "SKU-DESK-LAMP": PLENTY,
        "SKU-ESPRESSO-CUP": PLENTY,
        "SKU-HAND-GRINDER": PLENTY,
        "SKU-LINEN-APRON": PLENTY,
        "SKU-MILK-JUG": PLENTY,
        "SKU-PAPER-FILTER-100": PLENTY,
        "SKU-POUR-OVER-KETTLE": PLENTY,
        "SKU-TEA-TOWEL": PLENTY,
        "SKU-WALL-CLOCK": PLENTY,
        "SKU-SOLD-OUT": 0,
    }
)
"""SKU → free units. The last one is there to see an order fail and be refunded."""


async def put_in(context: ServiceContext) -> None:
    """Make the SKUs if there is none at all, and the settings want it. Harmless when done twice."""
    if not context.config.demo_catalogue or not await Stocks(context.database).is_empty():
        return
    for sku, on_hand in DEMO_CATALOGUE.items():
        await context.commands.submit(SetStock(sku=sku, on_hand=on_hand, only_if_new=True))
