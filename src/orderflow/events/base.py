"""What every event of an order has in common."""

from __future__ import annotations

from typing import Annotated, ClassVar
from uuid import UUID

import msgspec

from orderflow.messaging.identity import uuid_text
from orderflow.messaging.message import Event

TEXT_MAX = 500

Text = Annotated[str, msgspec.Meta(max_length=TEXT_MAX)]
"""A name, code or reason: far more room than any of them takes, and far less than a record has."""


class OrderEvent(Event, frozen=True, kw_only=True):
    """A fact about one order, which happens to it one time only. The key of its record is the order's id."""

    ONCE: ClassVar[bool] = True

    order_id: UUID

    @property
    def key(self) -> str:
        return uuid_text(self.order_id)
