"""What the inventory service is asked to do, and what it answers."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

import msgspec

from orderflow import APPROVE, Command, Permission, Role, uuid_text
from orderflow.events.inventory import ReservedLine
from orderflow.events.order import OrderFailed


class SetStock(Command, frozen=True, kw_only=True):
    """Say how many units of a SKU are free; makes the SKU if it is new. `only_if_new` leaves a known one alone.

    That there are fewer than before is refused, unless whoever says so `may_lower` them.
    """

    TYPE: ClassVar[str] = "orderflow.SetStock"
    PERMISSION: ClassVar[Permission] = Permission(frozenset({Role.OPERATOR, Role.APPROVER}))

    sku: str
    on_hand: int
    only_if_new: bool = False
    may_lower: bool = False

    @property
    def key(self) -> str:
        return f"stock/{self.sku}"


class StockLowered(msgspec.Struct, frozen=True):
    """The refusal: there would be fewer units than the `on_hand` that are free now."""

    sku: str
    on_hand: int


class StockSet(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the SKU as it stands now; `created` when it was new."""

    sku: str
    on_hand: int
    reserved: int
    version: int
    created: bool


class ReleaseStock(Command, frozen=True, kw_only=True):
    """Give back what is reserved for an order, because it failed: `because` is what the order service says of it.

    `lines` are what the sender knows to be reserved.
    """

    TYPE: ClassVar[str] = "orderflow.ReleaseStock"
    PERMISSION: ClassVar[Permission] = APPROVE

    order_id: UUID
    lines: tuple[ReservedLine, ...]
    because: OrderFailed

    @property
    def key(self) -> str:
        return uuid_text(self.order_id)


class StockReleased(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: how many units were given back. Not `changed`: it was done before."""

    order_id: UUID
    units: int
    changed: bool
