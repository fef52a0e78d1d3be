"""The commands of the order service, and their answers."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

import msgspec

from orderflow import Command, Permission, Role, uuid_text
from orderflow.events import Item


class PlaceOrder(Command, frozen=True, kw_only=True):
    """A shop places an order. The HTTP layer has chosen the id. `shop` is the caller's.

    `idempotency_key` and `fingerprint` come together or not at all. The fingerprint is equal for equal orders,
    however their JSON was written; `former_fingerprint` is the one of releases before pseudonyms. `response` is
    stored with the key, and returned to every repetition of the request, also by later releases.
    """

    TYPE: ClassVar[str] = "orderflow.PlaceOrder"
    PERMISSION: ClassVar[Permission] = Permission(frozenset({Role.SHOP}), anonymous=True)

    order_id: UUID
    customer_id: str
    currency: str
    items: tuple[Item, ...]
    payment_method: str
    idempotency_key: str | None = None
    fingerprint: str = ""
    former_fingerprint: str = ""
    response: str = ""
    shop: str | None = None

    @property
    def key(self) -> str:
        return uuid_text(self.order_id)

    @property
    def total(self) -> int:
        """In minor units of the currency."""
        return sum(item.quantity * item.unit_price for item in self.items)


class Placed(msgspec.Struct, frozen=True):
    """The answer: the `response` of the command that placed the order.

    `replayed`: that was an earlier request with the same key.
    """

    order_id: UUID
    response: str
    replayed: bool


class KeyReused(msgspec.Struct, frozen=True):
    """The refusal: the Idempotency-Key was used for an order with other content."""

    idempotency_key: str
