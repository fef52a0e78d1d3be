"""A fifth service: it reads `inventory-status`, keeps one parcel an order, and writes `shipping-status`."""

from typing import ClassVar
from uuid import UUID

from orderflow import Catalogue, Decision, Envelope, Fact, Rows, Service, Subscription, handlers, handles
from orderflow.events import INVENTORY_EVENT_TYPES, OrderEvent, ReservedLine, StockReserved


class OrderShipped(OrderEvent, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "shipping.OrderShipped"
    TOPIC: ClassVar[str] = "shipping-status"
    parcel: str


class Shipment(Fact, frozen=True, kw_only=True):
    TABLE: ClassVar[str] = "shipments"
    KEY: ClassVar[str] = "order_id"
    order_id: UUID
    parcel: str
    lines: tuple[ReservedLine, ...]


@handles(StockReserved)
def ship(_: Rows, event: StockReserved, envelope: Envelope) -> Decision:
    shipment = Shipment(order_id=event.order_id, parcel=f"P-{envelope.id.hex[:12]}", lines=event.lines)
    return Decision(facts=(shipment,), events=(OrderShipped(order_id=event.order_id, parcel=shipment.parcel),))


SERVICE = Service(
    name="shipping",
    catalogue=Catalogue(INVENTORY_EVENT_TYPES),
    subscriptions=(Subscription("shipping", ("inventory-status",)),),
    publishes=("shipping-status",),
    handlers=handlers(ship),
    tables=(Shipment,),
    sql="orderflow_shipping",
)
