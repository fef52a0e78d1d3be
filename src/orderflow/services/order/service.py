"""The declaration of the order service: what it reads, decides, stores, publishes and offers over HTTP."""

from __future__ import annotations

from orderflow import FLOW_EVENTS, FLOW_STATUS, Catalogue, Restatement, Service, Subscription, handlers
from orderflow.events import (
    INVENTORY_EVENT_TYPES,
    INVENTORY_STATUS,
    ORDER_EVENTS,
    PAYMENT_EVENT_TYPES,
    PAYMENT_STATUS,
)
from orderflow.services.order import model
from orderflow.services.order.api import operations
from orderflow.services.order.messages import PlaceOrder
from orderflow.services.order.storage import forget_old_keys

SERVICE = Service(
    name="order",
    title="Orderflow: orders",
    catalogue=Catalogue((PlaceOrder, *PAYMENT_EVENT_TYPES, *INVENTORY_EVENT_TYPES, *FLOW_EVENTS)),
    subscriptions=(
        Subscription("order", (PAYMENT_STATUS, INVENTORY_STATUS)),
        Subscription("order.flow", (FLOW_STATUS,), pace_ms=250),
    ),
    publishes=(ORDER_EVENTS, FLOW_STATUS),
    handlers=handlers(model),
    restatement=Restatement(model.order_of, model.state_order),
    tables=(model.Order, model.Transition, model.RefundStep, model.OrderFlow, model.IdempotencyKey),
    machines=(model.MACHINE,),
    sql="orderflow.services.order",
    api=operations,
    upkeep=forget_old_keys,
    personal=True,
)
