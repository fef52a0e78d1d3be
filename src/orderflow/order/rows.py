"""The rows of the order service."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

import msgspec

from orderflow.events.order import Item
from orderflow.messaging.rows import Fact, Row


class Status(StrEnum):
    """Where an order stands. COMPLETED and FAILED are final."""

    PENDING = "PENDING"
    PAID = "PAID"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class Refund(StrEnum):
    """Whether money has to go back, or has gone back. REFUSED: the bank will not give it back, and an operator has to
    see to it. VOID: it was never taken, so nothing has to go back.
    """

    NONE = "none"
    DUE = "due"
    REFUSED = "refused"
    DONE = "done"
    VOID = "void"


class EarlyFact(msgspec.Struct, frozen=True, kw_only=True):
    """What inventory said before the payment was heard of; it waits on the order for its turn."""

    event: str
    event_id: UUID


class Order(Row, frozen=True, kw_only=True):
    """An order. `version` counts its transitions from 1; `event` is what brought it to `status`."""

    TABLE: ClassVar[str] = "orders"

    order_id: UUID
    customer_id: str
    currency: str
    items: tuple[Item, ...]
    total: int
    payment_method: str
    status: Status
    version: int
    event: str
    reason: str | None = None
    refund: Refund = Refund.NONE
    early: EarlyFact | None = None

    @property
    def id(self) -> UUID:
        return self.order_id


class Transition(Fact, frozen=True, kw_only=True):
    """One step of an order's history: `event` (with the id `cause`) made it `to_status` and version `version`."""

    TABLE: ClassVar[str] = "order_history"

    order_id: UUID
    version: int
    from_status: Status
    event: str
    to_status: Status
    cause: UUID

    @property
    def id(self) -> tuple[UUID, int]:
        return (self.order_id, self.version)


class RefundStep(Fact, frozen=True, kw_only=True):
    """One step of an order's refund: `event` (with the id `cause`) made it `refund`.

    `version` is the order's at that time. `reason` is the bank's code where it refuses.
    """

    TABLE: ClassVar[str] = "order_refunds"

    order_id: UUID
    version: int
    refund: Refund
    event: str
    cause: UUID
    reason: str | None = None

    @property
    def id(self) -> tuple[UUID, UUID]:
        return (self.order_id, self.cause)


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """Why an order is stuck at a consumer: `parked` (it will be tried again) or `dead` (it was given up)."""

    state: str
    event_type: str
    event_id: str
    error: str
    attempts: int | None = None


class OrderFlow(Row, frozen=True, kw_only=True):
    """Where an order is stuck at this moment, by consumer. Orders that never were stuck have no such row."""

    TABLE: ClassVar[str] = "order_flow"

    order_id: UUID
    stuck: dict[str, Obstacle]

    @property
    def id(self) -> UUID:
        return self.order_id


class IdempotencyKey(Row, frozen=True, kw_only=True):
    """A client's Idempotency-Key, what was asked under it, and what was answered."""

    TABLE: ClassVar[str] = "idempotency_keys"

    idempotency_key: str
    fingerprint: str
    order_id: UUID
    response: str

    @property
    def id(self) -> str:
        return self.idempotency_key
