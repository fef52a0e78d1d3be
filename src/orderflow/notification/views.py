"""What callers of the notification service see."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from orderflow.notification.rows import NotifiedOutcome


class NotificationView(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer was told, and because of which event."""

    order_id: UUID
    outcome: NotifiedOutcome
    customer_id: str
    reason: str | None
    text: str
    cause: UUID
    at: datetime


class NotificationList(msgspec.Struct, frozen=True, kw_only=True):
    """Notifications: of one order in the order they were made, or of the newest orders."""

    notifications: tuple[NotificationView, ...]
