"""What every event of an order has in common."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from orderflow.messaging.identity import uuid_text
from orderflow.messaging.message import Event


class OrderEvent(Event, frozen=True, kw_only=True):
    """A fact about one order, which happens to it one time only. The key of its record is the order's id."""

    ONCE: ClassVar[bool] = True

    order_id: UUID

    @property
    def key(self) -> str:
        return uuid_text(self.order_id)
