"""The payment service over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

import msgspec

from orderflow import ConfirmationNeededError, ServiceContext
from orderflow.http import (
    CONFIRM,
    OPERATORS_TAG,
    PROPOSED,
    Example,
    Operation,
    Parameter,
    ProblemError,
    Records,
    Reply,
    Request,
    Response,
    Text,
    act_of,
    operator,
    page_limit,
    route,
)
from orderflow.services.payment.messages import PaymentSettled, SettlementOutcome, SettlePayment
from orderflow.services.payment.model import PaymentStatus
from orderflow.services.payment.storage import PaymentPage, Payments, PaymentView

PAGE_MAX = 100

ORDER_ID = Parameter("order_id", "path", "The order's id.", UUID)
STATUS = Parameter("status", "query", "Only payments with this status.", PaymentStatus)
LIMIT = page_limit(PAGE_MAX, default=20)
CURSOR = Parameter("cursor", "query", "The `next` of the previous page.", UUID)
MISSING = Response(404, "There is no payment of this order.")

_PAID = {
    "order_id": Example.ORDER_ID,
    "customer_id": Example.CUSTOMER,
    "currency": "EUR",
    "amount": 2500,
    "payment_method": "pm_card_visa",
    "status": "CAPTURED",
    "captured": 2500,
    "refunded": 0,
    "reason": None,
    "charge_reference": "ch_a3d04ebb8f7b4a577abe6caf",
    "refund_reference": None,
    "refund_refusal": None,
    "created_at": Example.PLACED_AT,
    "changed_at": Example.PAID_AT,
}
_PAGE = {"payments": [_PAID], "next": None}
_SAID = {"outcome": "charged", "reason": "The bank's statement of 26 November shows it.", "confirmed": True}
_SETTLED = {
    "order_id": Example.ORDER_ID,
    "status": "CAPTURED",
    "captured": 2500,
    "refunded": 0,
    "currency": "EUR",
    "changed": True,
}


class Settlement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happened to the charge or refund, and how that is known; `confirmed`: a person has confirmed it.

    `refunded`: the customer has the money back, from the bank or some other way. `not-charged`, of a refund: an
    operator settled the charge, but it was never made. `ask-again`: the bank would now make the refund that it
    refused.
    """

    outcome: SettlementOutcome
    reason: Annotated[Text, msgspec.Meta(max_length=500)] = ""
    confirmed: bool = False


class PaymentApi:
    """The handlers, with what they share."""

    def __init__(self, context: ServiceContext) -> None:
        self._payments = Payments(context.database)
        self._commands = context.commands
        self._gateway = context.gateway

    async def show(self, request: Request[None]) -> Reply:
        """Show the payment of an order.

        What was charged and refunded, and the bank's references. It exists once the service has heard of the order.
        """
        order_id: UUID = request.values["order_id"]
        return Reply(body=await self._require(order_id))

    async def page(self, request: Request[None]) -> Reply:
        """List payments, newest order first.

        Pages of payments, of one status or all. The `next` of a page is the `cursor` of the next one.
        """
        values = request.values
        return Reply(body=await self._payments.page(values["status"], values["cursor"], values["limit"]))

    async def settle(self, request: Request[Settlement]) -> Reply:
        """Settle a charge or refund that the bank left open, or a refund that it refused.

        For an operator who knows from elsewhere what happened to the money. It needs a confirmation and a reason,
        and is logged. The order goes on from there.
        """
        order_id: UUID = request.values["order_id"]
        said = request.body
        act = act_of(request, reason=said.reason, confirmed=said.confirmed)
        await self._require(order_id)
        if not act.confirmed or not act.reason.strip():
            raise ConfirmationNeededError("Confirm that you settle a payment, and give a reason: it moves money.")
        command = SettlePayment(order_id=order_id, outcome=said.outcome)
        settled: PaymentSettled = await self._commands.submit(command, act, traceparent=request.traceparent)
        return Reply(body=settled)

    async def records(self, order_id: UUID) -> Mapping[str, Any]:
        """What is held of an order, here and in the bank's book."""
        held = await self._payments.records(order_id)
        statement = getattr(self._gateway, "statement", None)
        return {**held, **(await statement(order_id))} if statement is not None else held

    async def _require(self, order_id: UUID) -> PaymentView:
        payment = await self._payments.show(order_id)
        if payment is None:
            raise ProblemError(404, f"there is no payment of order {order_id}")
        return payment


def operations(context: ServiceContext) -> Sequence[Operation]:
    """What the payment service offers."""
    api = PaymentApi(context)
    return (
        route(
            "GET /payments",
            api.page,
            Response(200, "A page of payments.", PaymentPage, example=_PAGE),
            parameters=(STATUS, LIMIT, CURSOR),
            tag="payments",
        ),
        route(
            "GET /payments/{order_id}",
            api.show,
            Response(200, "The payment as it stands.", PaymentView, example=_PAID),
            MISSING,
            parameters=(ORDER_ID,),
            tag="payments",
        ),
        route(
            "POST /payments/{order_id}/settlement",
            api.settle,
            Response(200, "The payment is settled.", PaymentSettled, example=_SETTLED),
            PROPOSED,
            MISSING,
            Response(409, "There is nothing to settle this way, or the bank has said otherwise."),
            CONFIRM,
            parameters=(ORDER_ID, operator),
            example=_SAID,
            tag=OPERATORS_TAG,
            permission=SettlePayment.PERMISSION,
        ),
        *Records(api.records, context.store.recovery).operations(),
    )
