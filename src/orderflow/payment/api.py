"""The payment service over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from orderflow.payment.store import Payments
from orderflow.payment.views import PaymentView
from orderflow.runtime.definition import ServiceContext
from orderflow.runtime.operation import Operation, Parameter, Reply, Request, Response
from orderflow.runtime.problems import ProblemError

ORDER_ID = Parameter(name="order_id", where="path", description="The order's id.", type=UUID)


class PaymentApi:
    """The handlers, with what they share."""

    def __init__(self, context: ServiceContext) -> None:
        self._payments = Payments(context.database)

    async def show(self, request: Request[None]) -> Reply:
        """GET /payments/{order_id}"""
        order_id: UUID = request.values["order_id"]
        payment = await self._payments.show(order_id)
        if payment is None:
            raise ProblemError(404, f"there is no payment of order {order_id}")
        return Reply(body=payment)


def operations(context: ServiceContext) -> Sequence[Operation]:
    """What the payment service offers."""
    api = PaymentApi(context)
    return (
        Operation(
            method="GET",
            path="/payments/{order_id}",
            summary="Show the payment of an order",
            handler=api.show,
            parameters=(ORDER_ID,),
            responses=(
                Response(status=200, description="The payment as it stands.", type=PaymentView),
                Response(status=404, description="There is no payment of this order."),
            ),
            tag="payments",
        ),
    )
