"""The inventory service's table: which message touches which rows, and decides what."""

from __future__ import annotations

from typing import Any

from orderflow.events.base import order_id_of
from orderflow.events.payment import PAYMENT_EVENT_TYPES, PaymentSucceeded
from orderflow.events.topics import INVENTORY_STATUS, PAYMENT_STATUS
from orderflow.inventory import model, releasing
from orderflow.inventory.api import operations
from orderflow.inventory.demo import put_in
from orderflow.inventory.messages import ReleaseStock, SetStock
from orderflow.inventory.rows import Held, Stock
from orderflow.inventory.store import PACKAGE, tables
from orderflow.messaging.catalogue import Catalogue
from orderflow.messaging.decision import Handler, Restatement, Service, Subscription
from orderflow.messaging.flow import FLOW_STATUS
from orderflow.messaging.rows import Ref
from orderflow.messaging.stores.postgres.migrations import MigrationSequence
from orderflow.runtime.definition import ServiceDefinition

ORDERED = ("customer_id", "currency", "items", "total")


def _its_skus(event: PaymentSucceeded) -> tuple[Ref, ...]:
    return tuple(Ref(Stock, item.sku) for item in event.items)


def _its_sku(command: SetStock) -> tuple[Ref, ...]:
    return (Ref(Stock, command.sku),)


def _what_is_held(command: ReleaseStock) -> tuple[Ref, ...]:
    return (Ref(Held, command.order_id), *(Ref(Stock, line.sku) for line in command.lines))


def _reservation_of(key: str) -> tuple[Ref, ...]:
    order_id = order_id_of(key)
    return () if order_id is None else (Ref(Held, order_id),)


def _handlers() -> dict[Any, Handler]:
    return {
        PaymentSucceeded: Handler(_its_skus, model.payment_succeeded, trusts=ORDERED),
        SetStock: Handler(_its_sku, model.set_stock),
        ReleaseStock: Handler(_what_is_held, releasing.release_stock),
    }


SERVICE = Service(
    name="inventory",
    catalogue=Catalogue((SetStock, ReleaseStock, *PAYMENT_EVENT_TYPES)),
    subscriptions=(Subscription("inventory", (PAYMENT_STATUS,)),),
    publishes=(INVENTORY_STATUS, FLOW_STATUS),
    handlers=_handlers(),
    restatement=Restatement(_reservation_of, releasing.state_reservation),
)


def definition() -> ServiceDefinition:
    """Everything that makes the inventory service run."""
    return ServiceDefinition(
        name="inventory",
        title="Orderflow: inventory",
        service=SERVICE,
        tables=tables(),
        migrations=MigrationSequence.from_package("inventory", PACKAGE),
        api=operations,
        on_start=put_in,
    )
