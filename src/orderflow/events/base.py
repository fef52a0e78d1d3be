"""The topics, what every event of an order has in common, and how a service checks what it is told."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec

from orderflow.core.dead_letters import FLOW_STATUS
from orderflow.core.failures import FinalError
from orderflow.core.identity import uuid_of, uuid_text
from orderflow.core.messages import Event

ORDER_EVENTS = "order-events"
PAYMENT_STATUS = "payment-status"
INVENTORY_STATUS = "inventory-status"

TOPICS: tuple[str, ...] = (ORDER_EVENTS, PAYMENT_STATUS, INVENTORY_STATUS, FLOW_STATUS)


TEXT_MAX = 500

Text = Annotated[str, msgspec.Meta(max_length=TEXT_MAX)]
"""A name, code or reason: far more room than any of them takes, and far less than a record has."""

Customer = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]

SHOWN_MAX = 120


class OrderEvent(Event, frozen=True, kw_only=True):
    """A fact about one order, which happens to it one time only. The key of its record is the order's id."""

    ONCE: ClassVar[bool] = True

    order_id: UUID

    @property
    def key(self) -> str:
        return uuid_text(self.order_id)


def order_id_of(key: str) -> UUID | None:
    """The order that a key names, if it is written as we write order ids."""
    try:
        order_id = uuid_of(key)
    except ValueError:
        return None
    return order_id if uuid_text(order_id) == key else None


class DisagreementError(FinalError):
    """An event says something else of an order than the service has stored: one of them is wrong, now and later."""


def require_same(event: OrderEvent, known: msgspec.Struct, *fields: str, **renamed: str) -> None:
    """Compare fields of the event with those that `known` has under the same name, or under the one given.

    Raises DisagreementError with both values of each field that differs.
    """
    pairs = {**dict(zip(fields, fields, strict=True)), **renamed}
    found = {told: (getattr(event, told), getattr(known, mine)) for told, mine in pairs.items()}
    require_equal(event, **found)


def require_equal(event: OrderEvent, **pairs: tuple[Any, Any]) -> None:
    """Each pair is what the event says and what the service knows. Raises DisagreementError as above."""
    differences = [
        f"{name} is {_shown(told)}, and here it is {_shown(known)}"
        for name, (told, known) in pairs.items()
        if told != known
    ]
    if differences:
        raise DisagreementError(
            f"{type(event).__name__} does not agree with what is known of the order: {'; '.join(differences)}"
        )


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
