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
    """Why units moved: somebody set the free units, an order was reserved, or what it had was given back."""

    SET = "set"
    RESERVE = "reserve"
    RELEASE = "release"


class Movement(Fact, frozen=True, kw_only=True):
    """One change of one SKU. Added up they are the stock: movement n made version n of its SKU.

    `cause` is the order's id, or the id of the command that set or released.
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
    """Whether the order got its units. RELEASED: it had them, failed all the same, and they were given back."""

    RESERVED = "RESERVED"
    REJECTED = "REJECTED"
    RELEASED = "RELEASED"


class Reservation(Fact, frozen=True, kw_only=True):
    """The one answer that an order got: `lines` were set aside, or `missing` was why nothing was."""

    TABLE: ClassVar[str] = "reservations"

    order_id: UUID
    status: ReservationStatus
    lines: tuple[ReservedLine, ...]
    missing: tuple[MissingLine, ...]
    customer_id: str

    @property
    def id(self) -> UUID:
        return self.order_id


class Held(Row, frozen=True, kw_only=True):
    """A reservation as it stands, for what comes after it: saying it again, and giving its units back.

    `customer_id` is not known of what an earlier release has reserved. `released_by` is the id of the command that
    gave the units back, which is the cause of their movements.
    """

    TABLE: ClassVar[str] = "reservations"

    order_id: UUID
    status: ReservationStatus
    lines: tuple[ReservedLine, ...]
    missing: tuple[MissingLine, ...]
    customer_id: str | None = None
    released_by: UUID | None = None

    @property
    def id(self) -> UUID:
        return self.order_id
