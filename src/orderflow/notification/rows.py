"""The rows of the notification service."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from orderflow.messaging.rows import Fact


class NotifiedOutcome(StrEnum):
    """What a customer is told of."""

    COMPLETED = "completed"
    FAILED = "failed"
    REFUNDED = "refunded"
    NOT_CHARGED = "not_charged"


class Notification(Fact, frozen=True, kw_only=True):
    """What was told to a customer of one outcome of one order. An order has one end: completed or failed."""

    TABLE: ClassVar[str] = "notifications"

    order_id: UUID
    outcome: NotifiedOutcome
    customer_id: str
    reason: str | None
    text: str
    cause: UUID

    @property
    def id(self) -> tuple[UUID, str]:
        is_end = self.outcome in (NotifiedOutcome.COMPLETED, NotifiedOutcome.FAILED)
        return (self.order_id, "end" if is_end else self.outcome)
