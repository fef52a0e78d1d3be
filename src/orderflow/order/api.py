"""The order service over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import msgspec

from orderflow.messaging.decision import RefusedError
from orderflow.messaging.identity import uuid7, uuid_text
from orderflow.order.admission import Admission
from orderflow.order.finishing import Finishing
from orderflow.order.idempotency import HEADER, PATTERN, InFlight, fingerprint, key_reused, parse_key
from orderflow.order.messages import KeyReused, Placed, PlaceOrder
from orderflow.order.requests import NewOrder, require_sound
from orderflow.order.rows import Status
from orderflow.order.store import CURSOR_PATTERN, Orders, from_cursor
from orderflow.order.views import OrderDetails, OrderPage, OrderView
from orderflow.runtime import examples
from orderflow.runtime.definition import ServiceContext
from orderflow.runtime.operation import Operation, Parameter, Reply, Request, Response
from orderflow.runtime.problem_types import (
    INVALID_REQUEST,
    KEY_REUSED,
    MALFORMED_KEY,
    MALFORMED_REQUEST,
    OVERLOADED,
    REQUEST_IN_PROGRESS,
    UNAVAILABLE,
)
from orderflow.runtime.problems import FieldError, ProblemError
from orderflow.runtime.text import IdEnd

WAIT_MAX_S = 60
PAGE_MAX = 100
FINAL = frozenset({Status.COMPLETED, Status.FAILED})
REPLAYED = (b"idempotency-replayed", b"true")

IDEMPOTENCY_KEY = Parameter(
    name=HEADER,
    where="header",
    description="A text of your own, in quotes, by which this request can be repeated safely.",
    type=Annotated[str, msgspec.Meta(extra_json_schema={"pattern": PATTERN}, examples=['"8e03978e-40d5"'])],
)
ORDER_ID = Parameter(name="order_id", where="path", description="The order's id.", type=UUID)
WAIT = Parameter(
    name="wait",
    where="query",
    description="Hold the answer until the order is COMPLETED or FAILED, at most so many seconds.",
    type=Annotated[float, msgspec.Meta(ge=0, le=WAIT_MAX_S)],
    default=0.0,
)
STATUS = Parameter(name="status", where="query", description="Only orders of this status.", type=Status)
LIMIT = Parameter(
    name="limit",
    where="query",
    description="How many at most.",
    type=Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)],
    default=20,
)
ID_ENDS = Parameter(
    name="id_ends",
    where="query",
    description="Only orders whose id ends so, among the newest million; `status` and `cursor` do not count then.",
    type=IdEnd,
)
CURSOR = Parameter(
    name="cursor",
    where="query",
    description="The `next` of the page before.",
    type=Annotated[str, msgspec.Meta(extra_json_schema={"pattern": CURSOR_PATTERN})],
)

_PLACED = {
    "id": examples.ORDER_ID,
    "status": "PENDING",
    "customer_id": examples.CUSTOMER,
    "currency": "EUR",
    "items": [{"sku": examples.SKU, "quantity": 2, "unit_price": 1250}],
    "total": 2500,
    "payment_method": "pm_card_visa",
    "reason": None,
    "refund": "none",
}
_WANTED = {name: _PLACED[name] for name in ("customer_id", "currency", "items", "payment_method")}
_COMPLETED = {**_PLACED, "status": "COMPLETED", "created_at": examples.PLACED_AT}
_HISTORY = [
    {"version": 1, "status": "PENDING", "event": "OrderPlaced", "cause": None, "at": examples.PLACED_AT},
    {
        "version": 2,
        "status": "PAID",
        "event": "PaymentSucceeded",
        "cause": examples.PAID_BY,
        "at": examples.PAID_AT,
    },
    {
        "version": 3,
        "status": "COMPLETED",
        "event": "StockReserved",
        "cause": examples.RESERVED_BY,
        "at": examples.RESERVED_AT,
    },
]
_PAGE = {"orders": [_COMPLETED], "next": None}
_SHOWN = {**_COMPLETED, "history": _HISTORY, "stuck": {}, "stuck_since": None}

_NOT_PLACED = (
    Response(
        status=400,
        description="It breaks a rule of HTTP, the body is not JSON, or the Idempotency-Key is malformed.",
        problems=(MALFORMED_REQUEST, MALFORMED_KEY),
    ),
    Response(
        status=409,
        description="A request with this Idempotency-Key is still under way.",
        problems=(REQUEST_IN_PROGRESS,),
    ),
    Response(
        status=422,
        description="A field does not fit, or the Idempotency-Key came with another order.",
        problems=(INVALID_REQUEST, KEY_REUSED),
    ),
    Response(
        status=503,
        description="Too many orders are unfinished, or the database is away.",
        problems=(OVERLOADED, UNAVAILABLE),
    ),
)


class OrderApi:
    """The handlers, with what they share."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._orders = Orders(context.database)
        self._admission = Admission(
            self._orders, context.clock, context.signals, context.config.unfinished_orders_max
        )
        self._finishing = Finishing(self._orders, context.stopping, context.config.http_waiting_max)
        self._in_flight = InFlight()
        context.signals.subscribe(self._finishing.notice)

    async def place(self, request: Request[NewOrder]) -> Reply:
        """POST /orders: the fast path."""
        order = request.body
        require_sound(order)
        self._admission.admit()
        header = request.values[HEADER]
        if header is None:
            return await self._submit(order, request.traceparent)
        key = parse_key(header)
        with self._in_flight.hold(key):
            return await self._submit(order, request.traceparent, key)

    async def show(self, request: Request[None]) -> Reply:
        """GET /orders/{order_id}"""
        order_id: UUID = request.values["order_id"]
        wait_s: float = request.values["wait"]
        if not wait_s:
            return Reply(body=await self._show(order_id))
        with self._finishing.expect(order_id) as expectation:
            order = await self._show(order_id)
            if order.status not in FINAL and await expectation.met(wait_s, request.gone):
                order = await self._show(order_id)
        return Reply(body=order)

    async def page(self, request: Request[None]) -> Reply:
        """GET /orders"""
        if (digits := request.values["id_ends"]) is not None:
            return Reply(body=await self._orders.ending(digits, request.values["limit"]))
        before: UUID | None = None
        if (cursor := request.values["cursor"]) is not None:
            try:
                before = from_cursor(cursor)
            except ValueError as error:
                detail = "not a cursor of this list"
                named = FieldError(detail=detail, parameter="cursor")
                raise ProblemError(422, f"cursor: {detail}", errors=[named]) from error
        page = await self._orders.page(request.values["status"], before, request.values["limit"])
        return Reply(body=page)

    async def _submit(self, order: NewOrder, traceparent: str, key: str | None = None) -> Reply:
        command = PlaceOrder(
            order_id=uuid7(self._context.clock.wall_ms(), self._context.chance),
            customer_id=order.customer_id,
            currency=order.currency,
            items=order.items,
            payment_method=order.payment_method,
            idempotency_key=key,
            fingerprint=fingerprint(order) if key is not None else "",
        )
        try:
            placed: Placed = await self._context.commands.submit(command, traceparent=traceparent)
        except RefusedError as refused:
            if isinstance(refused.answer, KeyReused):
                raise key_reused() from refused
            raise
        location = (b"location", f"/orders/{uuid_text(placed.order_id)}".encode())
        headers = (location, REPLAYED) if placed.replayed else (location,)
        return Reply(201, headers=headers, content=placed.body)

    async def _show(self, order_id: UUID) -> OrderDetails:
        order = await self._orders.show(order_id)
        if order is None:
            raise ProblemError(404, f"there is no order {order_id}")
        return order


def operations(context: ServiceContext) -> Sequence[Operation]:
    """What the order service offers."""
    api = OrderApi(context)
    return (_place(api), _page(api), _show(api))


def _place(api: OrderApi) -> Operation:
    placed = Response(
        status=201,
        description="The order is placed. It is paid and reserved from here on by itself.",
        type=OrderView,
        headers={
            "Location": "Where the order can be read.",
            "Idempotency-Replayed": "`true` when an earlier request of this key placed it.",
        },
        example=_PLACED,
    )
    return Operation(
        method="POST",
        path="/orders",
        summary="Place an order",
        description=(
            "Stores the order and answers; payment and stock follow by themselves. A SKU may stand in one line only, "
            "and the total must be at least 1 minor unit. Send an Idempotency-Key, and the same request again "
            "whenever no answer came: the order is placed once."
        ),
        example=_WANTED,
        handler=api.place,
        request=NewOrder,
        parameters=(IDEMPOTENCY_KEY,),
        responses=(
            placed,
            *_NOT_PLACED,
        ),
        tag="orders",
    )


def _page(api: OrderApi) -> Operation:
    return Operation(
        method="GET",
        path="/orders",
        summary="List orders, newest first",
        description="Pages of orders, of one status or of all. `next` of a page is the `cursor` of the one after it.",
        handler=api.page,
        parameters=(STATUS, LIMIT, CURSOR, ID_ENDS),
        responses=(Response(status=200, description="A page of orders.", type=OrderPage, example=_PAGE),),
        tag="orders",
    )


def _show(api: OrderApi) -> Operation:
    return Operation(
        method="GET",
        path="/orders/{order_id}",
        summary="Show an order, its history, and where it is stuck",
        description=(
            "The order as it stands, every step that brought it there, and each consumer at which it waits for an "
            "operator. With `wait` the answer comes when the order has ended, or when the time is over."
        ),
        handler=api.show,
        parameters=(ORDER_ID, WAIT),
        responses=(
            Response(status=200, description="The order as it stands.", type=OrderDetails, example=_SHOWN),
            Response(status=404, description="There is no such order."),
            Response(
                status=503,
                description="Too many requests wait already, or the database is away.",
                problems=(OVERLOADED, UNAVAILABLE),
            ),
        ),
        tag="orders",
    )
