"""What the inventory service is asked to do, and what it answers."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from orderflow.messaging.message import Command


class SetStock(Command, frozen=True, kw_only=True):
    """Say how many units of a SKU are free; makes the SKU if it is new. `only_if_new` leaves a known one alone."""

    TYPE: ClassVar[str] = "orderflow.SetStock"

    sku: str
    on_hand: int
    only_if_new: bool = False

    @property
    def key(self) -> str:
        return f"stock/{self.sku}"


class StockSet(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the SKU as it stands now; `created` when it was new."""

    sku: str
    on_hand: int
    reserved: int
    version: int
    created: bool
