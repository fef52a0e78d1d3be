"""The notification service's table: which message decides what. No message touches a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orderflow.events.base import OrderEvent
from orderflow.events.inventory import INVENTORY_EVENT_TYPES, StockRejected, StockReserved
from orderflow.events.payment import PAYMENT_EVENT_TYPES, PaymentFailed, PaymentRefunded, PaymentVoided
from orderflow.events.topics import INVENTORY_STATUS, PAYMENT_STATUS
from orderflow.messaging.catalogue import Catalogue
from orderflow.messaging.decision import Handler, Service, Subscription
from orderflow.messaging.flow import FLOW_STATUS
from orderflow.messaging.message import Message
from orderflow.messaging.rows import Ref
from orderflow.messaging.stores.postgres.migrations import MigrationSequence
from orderflow.notification import model
from orderflow.notification.api import operations
from orderflow.notification.store import PACKAGE, tables
from orderflow.runtime.definition import ServiceDefinition


def _nothing(_: OrderEvent) -> tuple[Ref, ...]:
    return ()


def _handlers() -> dict[Any, Handler]:
    return {
        StockReserved: Handler(_nothing, model.notify),
        StockRejected: Handler(_nothing, model.notify),
        PaymentFailed: Handler(_nothing, model.notify),
        PaymentRefunded: Handler(_nothing, model.notify),
        PaymentVoided: Handler(_nothing, model.notify),
    }


SERVICE = Service(
    name="notification",
    catalogue=Catalogue((*PAYMENT_EVENT_TYPES, *INVENTORY_EVENT_TYPES)),
    subscriptions=(Subscription("notification", (PAYMENT_STATUS, INVENTORY_STATUS)),),
    publishes=(FLOW_STATUS,),
    handlers=_handlers(),
)


def _notified(message: Message) -> Mapping[str, str]:
    if not isinstance(message, model.OutcomeEvent):
        return {}
    told = model.told_of(message)
    return {"notified": told.outcome.value, "text": told.text}


def definition() -> ServiceDefinition:
    """Everything that makes the notification service run."""
    return ServiceDefinition(
        name="notification",
        title="Orderflow: notifications",
        service=SERVICE,
        tables=tables(),
        migrations=MigrationSequence.from_package("notification", PACKAGE),
        api=operations,
        logged=_notified,
    )
