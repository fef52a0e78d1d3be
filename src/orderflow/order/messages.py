"""What the order service is asked to do, and what it answers."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

import msgspec

from orderflow.events.order import Item
from orderflow.messaging.identity import uuid_text
from orderflow.messaging.message import Command


class PlaceOrder(Command, frozen=True, kw_only=True):
    """A shop orders. The id was made at the edge. `idempotency_key` and `fingerprint` come together or not at all.

    The fingerprint is equal for equal orders, however their JSON was written.
    """

    TYPE: ClassVar[str] = "orderflow.PlaceOrder"

    order_id: UUID
    customer_id: str
    currency: str
    items: tuple[Item, ...]
    payment_method: str
    idempotency_key: str | None = None
    fingerprint: str = ""

    @property
    def key(self) -> str:
        return uuid_text(self.order_id)

    @property
    def total(self) -> int:
        """In minor units of the currency."""
        return sum(item.quantity * item.unit_price for item in self.items)


class Placed(msgspec.Struct, frozen=True):
    """The answer: the order as JSON; `replayed` when it was placed by an earlier request of the same key."""

    order_id: UUID
    body: bytes
    replayed: bool


class KeyReused(msgspec.Struct, frozen=True):
    """The refusal: this Idempotency-Key belongs to an order with another content."""

    idempotency_key: str
