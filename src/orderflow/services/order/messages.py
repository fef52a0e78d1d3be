"""What the order service is asked to do, and what it answers."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

import msgspec

from orderflow import Command, Permission, Role, uuid_text
from orderflow.events import Item


class PlaceOrder(Command, frozen=True, kw_only=True):
    """A shop orders. The id was made at the edge. `idempotency_key` and `fingerprint` come together or not at all.
    `shop` is the caller's.

    The fingerprint is equal for equal orders, however their JSON was written; `former_fingerprint` is the one that a
    release has made which knew no pseudonyms. `response` is what the shop is to be
    answered, and answered again under the same key, also by a later release: it is kept as it is.
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
    """The answer: the `response` of the command that placed the order; `replayed` when an earlier request of the same
    key did.
    """

    order_id: UUID
    response: str
    replayed: bool


class KeyReused(msgspec.Struct, frozen=True):
    """The refusal: this Idempotency-Key belongs to an order with another content."""

    idempotency_key: str
