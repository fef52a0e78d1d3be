"""The commands of the inventory service, and their answers."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

import msgspec

from orderflow import APPROVE, Command, Permission, RefusedError, Role, uuid_text
from orderflow.events import OrderFailed, ReservedLine


class Versions(msgspec.Struct, frozen=True):
    """Versions of a SKU that somebody names, or any (`*`)."""

    listed: tuple[int, ...] = ()
    any: bool = False

    def match(self, version: int | None) -> bool:
        """Whether what stands is among them; None: nothing does."""
        return version is not None and (self.any or version in self.listed)


class SetStock(Command, frozen=True, kw_only=True):
    """Say how many units of a SKU are free; makes the SKU if it is new. `only_if_new` leaves a known one alone.

    That there are fewer than before is refused, unless whoever says so `may_lower` them. It is refused too unless the
    version that stands is one of `if_match`, and if it is one of `if_none_match`: so nobody overwrites a change that
    he has not seen.
    """

    TYPE: ClassVar[str] = "orderflow.SetStock"
    ACTION: ClassVar[str] = "set stock"
    PERMISSION: ClassVar[Permission] = Permission(frozenset({Role.OPERATOR, Role.APPROVER}))

    sku: str
    on_hand: int
    only_if_new: bool = False
    may_lower: bool = False
    if_match: Versions | None = None
    if_none_match: Versions | None = None

    @property
    def key(self) -> str:
        return f"stock/{self.sku}"


class StockChangedError(RefusedError):
    """Another version of the SKU stands than the caller has seen."""


class StockLowered(msgspec.Struct, frozen=True):
    """The refusal: there would be fewer units than the `on_hand` that are free now."""

    sku: str
    on_hand: int

    def __str__(self) -> str:
        return f"{self.on_hand} units of {self.sku} are free, and lowering that takes an approver"


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
    ACTION: ClassVar[str] = "repair"
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
