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
)
from orderflow.services.payment.messages import Outcome, PaymentSettled, SettlePayment
from orderflow.services.payment.model import Status
from orderflow.services.payment.storage import PaymentPage, Payments, PaymentView

PAGE_MAX = 100

ORDER_ID = Parameter(name="order_id", where="path", description="The order's id.", type=UUID)
STATUS = Parameter(name="status", where="query", description="Only payments with this status.", type=Status)
LIMIT = page_limit(PAGE_MAX, default=20)
CURSOR = Parameter(name="cursor", where="query", description="The `next` of the previous page.", type=UUID)


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

    outcome: Outcome
    reason: Annotated[Text, msgspec.Meta(max_length=500)] = ""
    confirmed: bool = False


class PaymentApi:
    """The handlers, with what they share."""

    def __init__(self, context: ServiceContext) -> None:
        self._payments = Payments(context.database)
        self._commands = context.commands
        self._gateway = context.gateway

    async def show(self, request: Request[None]) -> Reply:
        """GET /payments/{order_id}"""
        order_id: UUID = request.values["order_id"]
        return Reply(body=await self._require(order_id))

    async def page(self, request: Request[None]) -> Reply:
        """GET /payments"""
        values = request.values
        return Reply(body=await self._payments.page(values["status"], values["cursor"], values["limit"]))

    async def settle(self, request: Request[Settlement]) -> Reply:
        """POST /payments/{order_id}/settlement"""
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
    return (_page(api), _show(api), _settle(api), *Records(api.records, context.store.recovery).operations())


def _page(api: PaymentApi) -> Operation:
    return Operation(
        method="GET",
        path="/payments",
        summary="List payments, newest order first",
        description=(
            "Pages of payments, of one status or all. The `next` of a page is the `cursor` of the next one."
        ),
        handler=api.page,
        parameters=(STATUS, LIMIT, CURSOR),
        responses=(Response(status=200, description="A page of payments.", type=PaymentPage, example=_PAGE),),
        tag="payments",
    )


def _show(api: PaymentApi) -> Operation:
    return Operation(
        method="GET",
        path="/payments/{order_id}",
        summary="Show the payment of an order",
        description=(
            "What was charged and refunded, and the bank's references. It exists once the service has heard of "
            "the order."
        ),
        handler=api.show,
        parameters=(ORDER_ID,),
        responses=(
            Response(status=200, description="The payment as it stands.", type=PaymentView, example=_PAID),
            Response(status=404, description="There is no payment of this order."),
        ),
        tag="payments",
    )


def _settle(api: PaymentApi) -> Operation:
    return Operation(
        method="POST",
        path="/payments/{order_id}/settlement",
        summary="Settle a charge or refund that the bank left open, or a refund that it refused",
        description=(
            "For an operator who knows from elsewhere what happened to the money. It needs a confirmation and "
            "a reason, and is logged. The order goes on from there."
        ),
        handler=api.settle,
        example=_SAID,
        request=Settlement,
        parameters=(ORDER_ID, operator),
        responses=(
            Response(status=200, description="The payment is settled.", type=PaymentSettled, example=_SETTLED),
            PROPOSED,
            Response(status=404, description="There is no payment of this order."),
            Response(status=409, description="There is nothing to settle this way, or the bank has said otherwise."),
            CONFIRM,
        ),
        tag=OPERATORS_TAG,
        permission=SettlePayment.PERMISSION,
    )
