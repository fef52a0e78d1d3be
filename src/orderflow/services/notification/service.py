"""The declaration of the notification service."""

from __future__ import annotations

from collections.abc import Mapping

from orderflow import FLOW_STATUS, Catalogue, Message, Service, Subscription, handlers
from orderflow.events import INVENTORY_STATUS, PAYMENT_STATUS
from orderflow.services.notification import model
from orderflow.services.notification.api import operations
from orderflow.services.notification.messages import HEARD, OutcomeEvent


def _notified(message: Message) -> Mapping[str, str]:
    if not isinstance(message, OutcomeEvent):
        return {}
    told = model.told_of(message)
    return {"notified": told.outcome.value, "text": told.text}


SERVICE = Service(
    name="notification",
    title="Orderflow: notifications",
    catalogue=Catalogue(HEARD),
    subscriptions=(Subscription("notification", (PAYMENT_STATUS, INVENTORY_STATUS)),),
    publishes=(FLOW_STATUS,),
    handlers=handlers(model),
    tables=(model.Notification,),
    sql="orderflow.services.notification",
    api=operations,
    logged=_notified,
)
