"""The inventory service over HTTP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated
from uuid import UUID

import msgspec

from orderflow import APPROVE, ForbiddenError, RefusedError, SecondPersonNeededError, ServiceContext
from orderflow.events import ITEMS_MAX, OrderFailed, Quantity, ReservedLine, Sku
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
from orderflow.services.inventory.messages import (
    ReleaseStock,
    SetStock,
    StockChangedError,
    StockLowered,
    StockReleased,
    StockSet,
    Versions,
)
from orderflow.services.inventory.storage import VERSION_MAX, MovementPage, StockPage, Stocks, StockView

ON_HAND_MAX = 1_000_000_000
PAGE_MAX = 500

SKU = Parameter("sku", "path", "The SKU: letters, digits, `.`, `_`, `-`.", Sku)
ORDER_ID = Parameter("order_id", "path", "The order's id.", UUID)
LIMIT = page_limit(PAGE_MAX, default=100)
AFTER = Parameter("cursor", "query", "The `next` of the previous page.", Sku, default="")
BEFORE = Parameter(
    "cursor", "query", "The `next` of the previous page.", Annotated[int, msgspec.Meta(ge=1, le=VERSION_MAX)]
)

_TAGS = r'^(\*|[ \t]*(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*[ \t]*)$'
_TAG = re.compile(r'(W/)?"([!#-~]*)"')
EntityTags = Annotated[str, msgspec.Meta(pattern=_TAGS, examples=['"3"'])]
IF_MATCH = Parameter(
    "If-Match",
    "header",
    "Only if this is the SKU's ETag, so that you do not overwrite a change you have not seen.",
    EntityTags,
)
IF_NONE_MATCH = Parameter("If-None-Match", "header", "`*`: only if the SKU is new.", EntityTags)
WHO = replace(operator, required=False, default="anonymous")
ETAG = {"ETag": "The version of the SKU, in quotes."}

MISSING = Response(404, "There is no such SKU.")

_SET = {"sku": Example.SKU, "on_hand": 250, "reserved": 2, "version": 3, "created": False}
_STOCK = {
    "sku": Example.SKU,
    "on_hand": 248,
    "reserved": 2,
    "version": 2,
    "changed_at": Example.RESERVED_AT,
}
_MOVEMENT = {
    "version": 2,
    "kind": "reserve",
    "cause": Example.ORDER_ID,
    "on_hand_change": -2,
    "reserved_change": 2,
    "at": Example.RESERVED_AT,
}
_RELEASE = {
    "customer_id": Example.CUSTOMER,
    "failed_because": "card_declined",
    "lines": [{"sku": Example.SKU, "quantity": 2}],
    "reason": "The audit of Thursday.",
    "confirmed": True,
}
_RELEASED = {"order_id": Example.ORDER_ID, "units": 2, "changed": True}


class NewStock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many units are free from now on, not counting those reserved for orders.

    `reason`: why, for the operators' log.
    """

    on_hand: Annotated[int, msgspec.Meta(ge=0, le=ON_HAND_MAX, examples=[250])]
    reason: Annotated[Text, msgspec.Meta(max_length=500)] = ""


class HeldLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of one SKU that are reserved for the order."""

    sku: Sku
    quantity: Quantity


class Release(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose order failed, and why, as the order service says it; what is reserved. `reason` goes into the operators'
    log; `confirmed`: a person has confirmed it.
    """

    customer_id: Annotated[Text, msgspec.Meta(min_length=1, max_length=100)]
    failed_because: Annotated[Text, msgspec.Meta(max_length=500)]
    lines: Annotated[tuple[HeldLine, ...], msgspec.Meta(min_length=1, max_length=ITEMS_MAX)]
    reason: Annotated[Text, msgspec.Meta(max_length=500)] = ""
    confirmed: bool = False


def versions_of(header: str | None, *, weak: bool = False) -> Versions | None:
    """The versions that a field names (RFC 9110, 13.1): a tag that is none of ours matches nothing, a weak one only
    where that is enough.
    """
    if header is None:
        return None
    if header == "*":
        return Versions(any=True)
    tags = [tag for prefix, tag in _TAG.findall(header) if weak or not prefix]
    return Versions(tuple(int(tag) for tag in tags if tag.isdecimal() and len(tag) <= len(str(VERSION_MAX))))


def etag(version: int) -> tuple[bytes, bytes]:
    """The header of the SKU as it stands."""
    return b"etag", b'"%d"' % version


class InventoryApi:
    """The handlers, with what they share."""

    def __init__(self, context: ServiceContext) -> None:
        self._commands = context.commands
        self._two_person = context.config.two_person
        self._stocks = Stocks(context.database)

    async def put(self, request: Request[NewStock]) -> Reply:
        """Set the free units of a SKU, creating it if it is new.

        Units reserved for orders stay reserved. Sending the same number again changes nothing. Lowering it takes an
        approver. Changes are recorded in the operators' log.
        """
        values, caller = request.values, request.caller
        command = SetStock(
            sku=values["sku"],
            on_hand=request.body.on_hand,
            may_lower=APPROVE.allows(caller) and (request.approves is not None or not self._two_person),
            if_match=versions_of(values["If-Match"]),
            if_none_match=versions_of(values["If-None-Match"], weak=True),
        )
        act = act_of(request, reason=request.body.reason)
        try:
            stock: StockSet = await self._commands.submit(command, act, traceparent=request.traceparent)
        except StockChangedError as error:
            raise ProblemError(412, str(error)) from error
        except RefusedError as refused:
            if not isinstance(refused.answer, StockLowered):
                raise
            if APPROVE.allows(caller):
                raise SecondPersonNeededError from refused
            raise ForbiddenError(caller, APPROVE.roles) from refused
        return Reply(201 if stock.created else 200, body=stock, headers=(etag(stock.version),))

    async def show(self, request: Request[None]) -> Reply:
        """Show one SKU.

        Its free units, and those reserved for orders.
        """
        stock = await self._require(request.values["sku"])
        return Reply(body=stock, headers=(etag(stock.version),))

    async def page(self, request: Request[None]) -> Reply:
        """List the stock in order of SKU.

        Pages of SKUs. The `next` of a page is the `cursor` of the next one.
        """
        return Reply(body=await self._stocks.page(request.values["cursor"], request.values["limit"]))

    async def movements(self, request: Request[None]) -> Reply:
        """List the movements of one SKU, newest first.

        Every change of its units and its cause. Together they add up to the current stock.
        """
        stock = await self._require(request.values["sku"])
        values = request.values
        return Reply(body=await self._stocks.movements(stock.sku, values["cursor"], values["limit"]))

    async def release(self, request: Request[Release]) -> Reply:
        """Give back what is reserved for an order that failed.

        For an operator, after an audit has found that the order failed. It needs a confirmation and a reason, and
        is logged. A repeated request changes nothing.
        """
        said = request.body
        act = act_of(request, reason=said.reason, confirmed=said.confirmed)
        order_id: UUID = request.values["order_id"]
        failed = OrderFailed(order_id=order_id, customer_id=said.customer_id, reason=said.failed_because)
        lines = tuple(ReservedLine(sku=line.sku, quantity=line.quantity) for line in said.lines)
        command = ReleaseStock(order_id=order_id, lines=lines, because=failed)
        released: StockReleased = await self._commands.carry_out(command, act)
        return Reply(body=released)

    async def _require(self, sku: str) -> StockView:
        stock = await self._stocks.show(sku)
        if stock is None:
            raise ProblemError(404, f"there is no SKU {sku}")
        return stock


def operations(context: ServiceContext) -> Sequence[Operation]:
    """What the inventory service offers."""
    api = InventoryApi(context)
    return (
        *_changing(api),
        *_looking(api),
        *Records(Stocks(context.database).records, context.store.recovery).operations(),
    )


def _changing(api: InventoryApi) -> Sequence[Operation]:
    return (
        route(
            "PUT /stock/{sku}",
            api.put,
            Response(200, "The SKU as it stands now.", StockSet, headers=ETAG, example=_SET),
            Response(201, "The SKU is new.", StockSet, headers=ETAG, example={**_SET, "version": 1, "created": True}),
            PROPOSED,
            Response(412, "The SKU does not match If-Match or If-None-Match."),
            parameters=(SKU, IF_MATCH, IF_NONE_MATCH, WHO),
            example={"on_hand": 250},
            tag="stock",
            permission=SetStock.PERMISSION,
        ),
        route(
            "POST /reservations/{order_id}/release",
            api.release,
            Response(200, "The reservation was released.", StockReleased, example=_RELEASED),
            PROPOSED,
            Response(409, "Nothing is reserved, or something else."),
            CONFIRM,
            parameters=(ORDER_ID, operator),
            example=_RELEASE,
            tag=OPERATORS_TAG,
            permission=ReleaseStock.PERMISSION,
        ),
    )


def _looking(api: InventoryApi) -> Sequence[Operation]:
    movements = {"sku": Example.SKU, "movements": [_MOVEMENT], "next": "2"}
    return (
        route(
            "GET /stock",
            api.page,
            Response(200, "A page of SKUs.", StockPage, example={"stock": [_STOCK], "next": None}),
            parameters=(LIMIT, AFTER),
            tag="stock",
        ),
        route(
            "GET /stock/{sku}",
            api.show,
            Response(200, "The SKU as it stands.", StockView, headers=ETAG, example=_STOCK),
            MISSING,
            parameters=(SKU,),
            tag="stock",
        ),
        route(
            "GET /stock/{sku}/movements",
            api.movements,
            Response(200, "A page of movements.", MovementPage, example=movements),
            MISSING,
            parameters=(SKU, LIMIT, BEFORE),
            tag="stock",
        ),
    )
