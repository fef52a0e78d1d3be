"""The declaration of the inventory service, and its demo catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from orderflow import FLOW_STATUS, PLATFORM, Catalogue, Restatement, Service, ServiceContext, Subscription, handlers
from orderflow.events import INVENTORY_STATUS, PAYMENT_EVENT_TYPES, PAYMENT_STATUS
from orderflow.services.inventory import model
from orderflow.services.inventory.api import operations
from orderflow.services.inventory.messages import ReleaseStock, SetStock
from orderflow.services.inventory.storage import Stocks

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


async def put_in_demo(context: ServiceContext) -> None:
    """Make the SKUs of the demo catalogue if there are none, and the settings want it. Harmless when done twice."""
    if not context.config.demo_catalogue or not await Stocks(context.database).is_empty():
        return
    for sku, on_hand in DEMO_CATALOGUE.items():
        await context.commands.submit(SetStock(sku=sku, on_hand=on_hand, only_if_new=True), PLATFORM)


SERVICE = Service(
    name="inventory",
    title="Orderflow: inventory",
    catalogue=Catalogue((SetStock, ReleaseStock, *PAYMENT_EVENT_TYPES)),
    subscriptions=(Subscription("inventory", (PAYMENT_STATUS,)),),
    publishes=(INVENTORY_STATUS, FLOW_STATUS),
    handlers=handlers(model),
    restatement=Restatement(model.reservation_of, model.state_reservation),
    tables=(model.Stock, model.Reservation, model.Held, model.Movement),
    sql="orderflow.services.inventory",
    api=operations,
    on_start=put_in_demo,
)
