"""The notification service over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from orderflow import ServiceContext
from orderflow.http import Example, Operation, Parameter, Records, Reply, Request, Response, page_limit, route
from orderflow.services.notification.storage import NotificationList, Notifications

PAGE_MAX = 200

ORDER_ID = Parameter("order_id", "query", "Only notifications of this order.", UUID)
LIMIT = page_limit(PAGE_MAX, default=50, description="Maximum number, if no order is named.")


_TOLD = {
    "order_id": Example.ORDER_ID,
    "outcome": "completed",
    "customer_id": Example.CUSTOMER,
    "reason": None,
    "text": f"Your order {Example.ORDER_ID} is complete and will be sent to you.",
    "cause": Example.RESERVED_BY,
    "at": Example.RESERVED_AT,
}


class NotificationApi:
    """The handlers, with what they share."""

    def __init__(self, context: ServiceContext) -> None:
        self._notifications = Notifications(context.database)

    async def list(self, request: Request[None]) -> Reply:
        """List what customers were told, of one order or of the newest.

        For one order, in the order they were made; otherwise of the orders told of last.
        """
        order_id: UUID | None = request.values["order_id"]
        if order_id is not None:
            found = await self._notifications.of_order(order_id)
        else:
            found = await self._notifications.latest(request.values["limit"])
        return Reply(body=NotificationList(notifications=found))


def operations(context: ServiceContext) -> Sequence[Operation]:
    """What the notification service offers."""
    api = NotificationApi(context)
    return (
        route(
            "GET /notifications",
            api.list,
            Response(200, "Notifications.", NotificationList, example={"notifications": [_TOLD]}),
            parameters=(ORDER_ID, LIMIT),
            tag="notifications",
        ),
        *Records(Notifications(context.database).records, context.store.recovery).operations(),
    )
