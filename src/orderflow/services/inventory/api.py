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

SKU = Parameter(name="sku", where="path", description="The SKU: letters, digits, `.`, `_`, `-`.", type=Sku)
ORDER_ID = Parameter(name="order_id", where="path", description="The order's id.", type=UUID)
LIMIT = page_limit(PAGE_MAX, default=100)
AFTER = Parameter(name="cursor", where="query", description="The `next` of the previous page.", type=Sku, default="")
BEFORE = Parameter(
    name="cursor",
    where="query",
    description="The `next` of the previous page.",
    type=Annotated[int, msgspec.Meta(ge=1, le=VERSION_MAX)],
)

_TAGS = r'^(\*|[ \t]*(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*[ \t]*)$'
_TAG = re.compile(r'(W/)?"([!#-~]*)"')
EntityTags = Annotated[str, msgspec.Meta(pattern=_TAGS, examples=['"3"'])]
IF_MATCH = Parameter(
    name="If-Match",
    where="header",
    description="Only if this is the SKU's ETag, so that you do not overwrite a change you have not seen.",
    type=EntityTags,
)
IF_NONE_MATCH = Parameter(
    name="If-None-Match",
    where="header",
    description="`*`: only if the SKU is new.",
    type=EntityTags,
)
WHO = replace(operator, required=False, default="anonymous")
ETAG = {"ETag": "The version of the SKU, in quotes."}

MISSING = Response(status=404, description="There is no such SKU.")

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
        """PUT /stock/{sku}"""
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
        """GET /stock/{sku}"""
        stock = await self._require(request.values["sku"])
        return Reply(body=stock, headers=(etag(stock.version),))

    async def page(self, request: Request[None]) -> Reply:
        """GET /stock"""
        return Reply(body=await self._stocks.page(request.values["cursor"], request.values["limit"]))

    async def movements(self, request: Request[None]) -> Reply:
        """GET /stock/{sku}/movements"""
        stock = await self._require(request.values["sku"])
        values = request.values
        return Reply(body=await self._stocks.movements(stock.sku, values["cursor"], values["limit"]))

    async def release(self, request: Request[Release]) -> Reply:
        """POST /reservations/{order_id}/release"""
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
    own = (_put(api), _page(api), _show(api), _movements(api), _release(api))
    return (*own, *Records(Stocks(context.database).records, context.store.recovery).operations())


def _release(api: InventoryApi) -> Operation:
    lines = [{"sku": Example.SKU, "quantity": 2}]
    failed = {"customer_id": Example.CUSTOMER, "failed_because": "card_declined"}
    return Operation(
        method="POST",
        path="/reservations/{order_id}/release",
        summary="Give back what is reserved for an order that failed",
        description=(
            "For an operator, after an audit has found that the order failed. It needs a confirmation and a "
            "reason, and is logged. A repeated request changes nothing."
        ),
        handler=api.release,
        request=Release,
        example={**failed, "lines": lines, "reason": "The audit of Thursday.", "confirmed": True},
        parameters=(ORDER_ID, operator),
        responses=(
            Response(
                status=200,
                description="The reservation was released.",
                type=StockReleased,
                example={"order_id": Example.ORDER_ID, "units": 2, "changed": True},
            ),
            PROPOSED,
            Response(status=409, description="Nothing is reserved, or something else."),
            CONFIRM,
        ),
        tag=OPERATORS_TAG,
        permission=ReleaseStock.PERMISSION,
    )


def _put(api: InventoryApi) -> Operation:
    return Operation(
        method="PUT",
        path="/stock/{sku}",
        summary="Set the free units of a SKU, creating it if it is new",
        description=(
            "Units reserved for orders stay reserved. Sending the same number again changes nothing. Lowering "
            "it takes an approver. Changes are recorded in the operators' log."
        ),
        example={"on_hand": 250},
        handler=api.put,
        request=NewStock,
        parameters=(SKU, IF_MATCH, IF_NONE_MATCH, WHO),
        responses=(
            Response(status=200, description="The SKU as it stands now.", type=StockSet, headers=ETAG, example=_SET),
            Response(
                status=201,
                description="The SKU is new.",
                type=StockSet,
                headers=ETAG,
                example={**_SET, "version": 1, "created": True},
            ),
            PROPOSED,
            Response(status=412, description="The SKU does not match If-Match or If-None-Match."),
        ),
        tag="stock",
        permission=SetStock.PERMISSION,
    )


def _page(api: InventoryApi) -> Operation:
    return Operation(
        method="GET",
        path="/stock",
        summary="List the stock in order of SKU",
        description="Pages of SKUs. The `next` of a page is the `cursor` of the next one.",
        handler=api.page,
        parameters=(LIMIT, AFTER),
        responses=(
            Response(
                status=200,
                description="A page of SKUs.",
                type=StockPage,
                example={"stock": [_STOCK], "next": None},
            ),
        ),
        tag="stock",
    )


def _show(api: InventoryApi) -> Operation:
    return Operation(
        method="GET",
        path="/stock/{sku}",
        summary="Show one SKU",
        description="Its free units, and those reserved for orders.",
        handler=api.show,
        parameters=(SKU,),
        responses=(
            Response(status=200, description="The SKU as it stands.", type=StockView, headers=ETAG, example=_STOCK),
            MISSING,
        ),
        tag="stock",
    )


def _movements(api: InventoryApi) -> Operation:
    return Operation(
        method="GET",
        path="/stock/{sku}/movements",
        summary="List the movements of one SKU, newest first",
        description="Every change of its units and its cause. Together they add up to the current stock.",
        handler=api.movements,
        parameters=(SKU, LIMIT, BEFORE),
        responses=(
            Response(
                status=200,
                description="A page of movements.",
                type=MovementPage,
                example={"sku": Example.SKU, "movements": [_MOVEMENT], "next": "2"},
            ),
            MISSING,
        ),
        tag="stock",
    )
