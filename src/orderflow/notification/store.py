"""The notification service's tables, and the questions asked of them outside of decisions."""

from __future__ import annotations

from uuid import UUID

from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.stores.postgres.tables import Facts, Table
from orderflow.notification.rows import Notification, NotifiedOutcome
from orderflow.notification.views import NotificationView
from orderflow.runtime.definition import Database, Record

PACKAGE = "orderflow.notification"


def tables() -> tuple[Table | Facts, ...]:
    """How facts stand in the database."""
    return (Facts(Notification, append=load_queries(PACKAGE)["append_notifications"]),)


class Notifications:
    """Read access to the notifications. Raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = load_queries(PACKAGE)

    async def of_order(self, order_id: UUID) -> tuple[NotificationView, ...]:
        """What was told of one order, oldest first."""
        rows = await self._database.fetch(self._queries["notifications_of_order"], order_id)
        return tuple(_view(row) for row in rows)

    async def latest(self, limit: int) -> tuple[NotificationView, ...]:
        """What was told of the newest orders."""
        rows = await self._database.fetch(self._queries["latest_notifications"], limit)
        return tuple(_view(row) for row in rows)


def _view(row: Record) -> NotificationView:
    return NotificationView(
        order_id=row["order_id"],
        outcome=NotifiedOutcome(row["outcome"]),
        customer_id=row["customer_id"],
        reason=row["reason"],
        text=row["text"],
        cause=row["cause"],
        at=row["at"],
    )
