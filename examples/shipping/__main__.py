"""A fifth service: reads `inventory-status`, keeps one parcel an order, writes `shipping-status`."""

import os
import sys
from typing import ClassVar
from uuid import UUID

from orderflow.events.base import OrderEvent
from orderflow.events.inventory import INVENTORY_EVENT_TYPES, ReservedLine, StockReserved
from orderflow.messaging.catalogue import Catalogue
from orderflow.messaging.decision import Decision, Handler, Service, Subscription
from orderflow.messaging.envelope import Envelope
from orderflow.messaging.rows import Fact, Rows
from orderflow.messaging.stores.postgres.migrations import MigrationSequence
from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.stores.postgres.tables import Facts
from orderflow.runtime.definition import ServiceDefinition
from orderflow.runtime.process import run_own


class OrderShipped(OrderEvent, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "shipping.OrderShipped"
    TOPIC: ClassVar[str] = "shipping-status"
    parcel: str


class Shipment(Fact, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "shipments"
    order_id: UUID
    parcel: str
    lines: tuple[ReservedLine, ...]
    id = property(lambda self: self.order_id)


def ship(_: Rows, envelope: Envelope) -> Decision:
    event = envelope.message
    assert isinstance(event, StockReserved)
    shipment = Shipment(order_id=event.order_id, parcel=f"P-{envelope.id.hex[:12]}", lines=event.lines)
    return Decision(facts=(shipment,), events=(OrderShipped(order_id=event.order_id, parcel=shipment.parcel),))


READS = Subscription("shipping", ("inventory-status",))
SHIP = Handler(lambda _: (), ship)
SHIPPING = ServiceDefinition(
    name="shipping",
    title="Shipping",
    service=Service(
        "shipping", Catalogue(INVENTORY_EVENT_TYPES), (READS,), ("shipping-status",), {StockReserved: SHIP}
    ),
    tables=(Facts(Shipment, append=load_queries("examples.shipping")["append_shipments"]),),
    migrations=MigrationSequence.from_package("shipping", "examples.shipping"),
    api=lambda _: (),
)

if __name__ == "__main__":
    sys.exit(run_own(SHIPPING, os.environ, port=int(sys.argv[1]) if sys.argv[1:] else 8005))
