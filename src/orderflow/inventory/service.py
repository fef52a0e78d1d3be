"""The inventory service's table: which message touches which rows, and decides what."""

from __future__ import annotations

from typing import Any

from orderflow.events.payment import PAYMENT_EVENT_TYPES, PaymentSucceeded
from orderflow.events.topics import INVENTORY_STATUS, PAYMENT_STATUS
from orderflow.inventory import model
from orderflow.inventory.api import operations
from orderflow.inventory.demo import put_in
from orderflow.inventory.messages import SetStock
from orderflow.inventory.rows import Stock
from orderflow.inventory.store import PACKAGE, tables
from orderflow.messaging.catalogue import Catalogue
from orderflow.messaging.decision import Handler, Service, Subscription
from orderflow.messaging.flow import FLOW_STATUS
from orderflow.messaging.rows import Ref
from orderflow.messaging.stores.postgres.migrations import MigrationSequence
from orderflow.runtime.definition import ServiceDefinition

ORDERED = ("customer_id", "currency", "items", "total")


def _its_skus(event: PaymentSucceeded) -> tuple[Ref, ...]:
    return tuple(Ref(Stock, item.sku) for item in event.items)


def _its_sku(command: SetStock) -> tuple[Ref, ...]:
    return (Ref(Stock, command.sku),)


def _handlers() -> dict[Any, Handler]:
    return {
        PaymentSucceeded: Handler(_its_skus, model.payment_succeeded, trusts=ORDERED),
        SetStock: Handler(_its_sku, model.set_stock),
    }


SERVICE = Service(
    name="inventory",
    catalogue=Catalogue((SetStock, *PAYMENT_EVENT_TYPES)),
    subscriptions=(Subscription("inventory", (PAYMENT_STATUS,)),),
    publishes=(INVENTORY_STATUS, FLOW_STATUS),
    handlers=_handlers(),
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
