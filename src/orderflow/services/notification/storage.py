"""Read access to the notifications, outside of decisions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from orderflow import PERSONAL, Database, Record, load_queries, view_of
from orderflow.services.notification.model import NotifiedOutcome


class NotificationView(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer was told, and because of which event."""

    order_id: UUID
    outcome: NotifiedOutcome
    customer_id: Annotated[str, PERSONAL]
    reason: str | None
    text: Annotated[str, PERSONAL]
    cause: UUID
    at: datetime


class NotificationList(msgspec.Struct, frozen=True, kw_only=True):
    """Notifications: of one order in the order they were made, or of the newest orders."""

    notifications: tuple[NotificationView, ...]


class Notifications:
    """Read access to the notifications. Raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = load_queries("orderflow.services.notification")

    async def records(self, order_id: UUID) -> Mapping[str, Any]:
        """Every row of an order, by table, as JSON."""
        return dict((await self._database.fetch(self._queries["records_of_order"], order_id))[0])

    async def of_order(self, order_id: UUID) -> tuple[NotificationView, ...]:
        """What was told of one order, oldest first."""
        rows = await self._database.fetch(self._queries["notifications_of_order"], order_id)
        return tuple(_view(row) for row in rows)

    async def latest(self, limit: int) -> tuple[NotificationView, ...]:
        """What was told of the newest orders."""
        rows = await self._database.fetch(self._queries["latest_notifications"], limit)
        return tuple(_view(row) for row in rows)


def _view(row: Record) -> NotificationView:
    return view_of(NotificationView, row, outcome=NotifiedOutcome(row["outcome"]))
