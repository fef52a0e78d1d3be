"""The payment service over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from orderflow.messaging.decision import RefusedError
from orderflow.messaging.recovery.errors import ConfirmationNeededError
from orderflow.payment.messages import ChargeSettled, SettleCharge
from orderflow.payment.store import Payments
from orderflow.payment.views import PaymentView
from orderflow.runtime.definition import ServiceContext
from orderflow.runtime.operation import Operation, Parameter, Reply, Request, Response
from orderflow.runtime.operators.asking import CONFIRM, TAG, act_of, operator
from orderflow.runtime.problems import ProblemError
from orderflow.runtime.text import Text

ORDER_ID = Parameter(name="order_id", where="path", description="The order's id.", type=UUID)


class Settlement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of the charge, and how that is known; `confirmed`: a person was asked and means it."""

    outcome: Literal["charged", "not-charged"]
    reason: Annotated[Text, msgspec.Meta(max_length=500)] = ""
    confirmed: bool = False


class PaymentApi:
    """The handlers, with what they share."""

    def __init__(self, context: ServiceContext) -> None:
        self._payments = Payments(context.database)
        self._commands = context.commands
        self._store = context.store

    async def show(self, request: Request[None]) -> Reply:
        """GET /payments/{order_id}"""
        order_id: UUID = request.values["order_id"]
        return Reply(body=await self._require(order_id))

    async def settle(self, request: Request[Settlement]) -> Reply:
        """POST /payments/{order_id}/settlement"""
        order_id: UUID = request.values["order_id"]
        said = request.body
        act = act_of(request, reason=said.reason, confirmed=said.confirmed)
        await self._require(order_id)
        if not act.confirmed or not act.reason.strip():
            raise ConfirmationNeededError("Confirm that you settle a charge, and give the reason: it moves money.")
        command = SettleCharge(order_id=order_id, charged=said.outcome == "charged")
        log = self._store.recovery.log
        target = f"payment {order_id}"
        try:
            settled: ChargeSettled = await self._commands.submit(command, traceparent=request.traceparent)
        except RefusedError as refused:
            await log(act, "settle", target, f"refused: {refused}")
            raise
        await log(act, "settle", target, f"{said.outcome}: {settled.status}{'' if settled.changed else ' before'}")
        return Reply(body=settled)

    async def _require(self, order_id: UUID) -> PaymentView:
        payment = await self._payments.show(order_id)
        if payment is None:
            raise ProblemError(404, f"there is no payment of order {order_id}")
        return payment


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
        Operation(
            method="POST",
            path="/payments/{order_id}/settlement",
            summary="Settle a charge whose outcome the bank does not tell",
            handler=api.settle,
            request=Settlement,
            parameters=(ORDER_ID, operator),
            responses=(
                Response(status=200, description="It is settled so.", type=ChargeSettled),
                Response(status=404, description="There is no payment of this order."),
                Response(status=409, description="The charge is not open."),
                CONFIRM,
            ),
            tag=TAG,
        ),
    )
