"""The order service's table: which message touches which rows, and decides what."""

from __future__ import annotations

from typing import Any

from orderflow.events.base import OrderEvent, order_id_of
from orderflow.events.inventory import INVENTORY_EVENT_TYPES, StockRejected, StockReserved
from orderflow.events.payment import (
    PAYMENT_EVENT_TYPES,
    PaymentFailed,
    PaymentRefunded,
    PaymentSucceeded,
    PaymentVoided,
    RefundFailed,
)
from orderflow.events.topics import INVENTORY_STATUS, ORDER_EVENTS, PAYMENT_STATUS
from orderflow.messaging.catalogue import Catalogue
from orderflow.messaging.decision import Handler, Restatement, Service, Subscription
from orderflow.messaging.flow import FLOW_EVENTS, FLOW_STATUS, Dead, FlowEvent, Parked, Reopened
from orderflow.messaging.rows import Ref
from orderflow.messaging.stores.postgres.migrations import MigrationSequence
from orderflow.order import model
from orderflow.order.api import operations
from orderflow.order.messages import PlaceOrder
from orderflow.order.rows import IdempotencyKey, Order, OrderFlow
from orderflow.order.store import PACKAGE, tables
from orderflow.order.upkeep import forget_old_keys
from orderflow.runtime.definition import ServiceDefinition


def _placing(command: PlaceOrder) -> tuple[Ref, ...]:
    """The order is new: the command's key locks it, and there is nothing to load."""
    return () if command.idempotency_key is None else (Ref(IdempotencyKey, command.idempotency_key),)


def _its_order(event: OrderEvent) -> tuple[Ref, ...]:
    return (Ref(Order, event.order_id),)


def _order_of(key: str) -> tuple[Ref, ...]:
    order_id = order_id_of(key)
    return () if order_id is None else (Ref(Order, order_id),)


def _stuck_order(event: FlowEvent) -> tuple[Ref, ...]:
    order_id = order_id_of(event.subject_key)
    return () if order_id is None else (Ref(Order, order_id), Ref(OrderFlow, order_id))


def _handlers() -> dict[Any, Handler]:
    return {
        PlaceOrder: Handler(_placing, model.place_order),
        PaymentSucceeded: Handler(_its_order, model.payment_succeeded),
        PaymentFailed: Handler(_its_order, model.payment_failed),
        PaymentRefunded: Handler(_its_order, model.payment_refunded),
        RefundFailed: Handler(_its_order, model.refund_failed),
        PaymentVoided: Handler(_its_order, model.payment_voided),
        StockReserved: Handler(_its_order, model.stock_reserved),
        StockRejected: Handler(_its_order, model.stock_rejected),
        Parked: Handler(_stuck_order, model.flow_changed),
        Dead: Handler(_stuck_order, model.flow_changed),
        Reopened: Handler(_stuck_order, model.flow_changed),
    }


SERVICE = Service(
    name="order",
    catalogue=Catalogue((PlaceOrder, *PAYMENT_EVENT_TYPES, *INVENTORY_EVENT_TYPES, *FLOW_EVENTS)),
    subscriptions=(
        Subscription("order", (PAYMENT_STATUS, INVENTORY_STATUS)),
        Subscription("order.flow", (FLOW_STATUS,), pace_ms=250),
    ),
    publishes=(ORDER_EVENTS, FLOW_STATUS),
    handlers=_handlers(),
    restatement=Restatement(_order_of, model.state_order),
)


def definition() -> ServiceDefinition:
    """Everything that makes the order service run."""
    return ServiceDefinition(
        name="order",
        title="Orderflow: orders",
        service=SERVICE,
        tables=tables(),
        migrations=MigrationSequence.from_package("order", PACKAGE),
        api=operations,
        machines=(model.MACHINE,),
        upkeep=forget_old_keys,
    )
