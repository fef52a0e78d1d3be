"""The rows of the inventory service."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from orderflow.events.inventory import MissingLine, ReservedLine
from orderflow.messaging.rows import Fact, Row


class Stock(Row, frozen=True, kw_only=True):
    """One SKU: units that are free (`on_hand`) and set aside (`reserved`). `version` counts its movements."""

    TABLE: ClassVar[str] = "stock"

    sku: str
    on_hand: int
    reserved: int
    version: int

    @property
    def id(self) -> str:
        return self.sku


class MovementKind(StrEnum):
    """Why units moved: somebody set the free units, or an order was reserved."""

    SET = "set"
    RESERVE = "reserve"


class Movement(Fact, frozen=True, kw_only=True):
    """One change of one SKU. Added up they are the stock: movement n made version n of its SKU.

    `cause` is the order's id, or the id of the command.
    """

    TABLE: ClassVar[str] = "movements"

    sku: str
    version: int
    kind: MovementKind
    cause: UUID
    on_hand_change: int
    reserved_change: int

    @property
    def id(self) -> tuple[str, int]:
        return (self.sku, self.version)


class ReservationStatus(StrEnum):
    """Whether the order got its units."""

    RESERVED = "RESERVED"
    REJECTED = "REJECTED"


class Reservation(Fact, frozen=True, kw_only=True):
    """The one answer that an order got: `lines` were set aside, or `missing` was why nothing was."""

    TABLE: ClassVar[str] = "reservations"

    order_id: UUID
    status: ReservationStatus
    lines: tuple[ReservedLine, ...]
    missing: tuple[MissingLine, ...]

    @property
    def id(self) -> UUID:
        return self.order_id
