"""The order service over HTTP: placing orders once, showing them, and waiting for their end."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec

from orderflow import (
    READ,
    BatchCommitted,
    Caller,
    Clock,
    ForbiddenError,
    Permission,
    RefusedError,
    Role,
    ServiceContext,
    Signal,
    Signals,
    StoreUnavailableError,
    TaskFailed,
    uuid7,
    uuid_text,
)
from orderflow.events import (
    CURRENCIES,
    ITEMS_MAX,
    QUANTITY_MAX,
    UNIT_PRICE_MAX,
    Item,
    OrderCompleted,
    OrderFailed,
    Sku,
    fault_of_order,
)
from orderflow.http import (
    INVALID_REQUEST,
    KEY_REUSED,
    MALFORMED_KEY,
    MALFORMED_REQUEST,
    OPERATORS_TAG,
    OVERLOADED,
    REQUEST_IN_PROGRESS,
    UNAVAILABLE,
    CustomerOperations,
    Example,
    FieldError,
    FilledText,
    IdEnd,
    Operation,
    Parameter,
    ProblemError,
    Records,
    Reply,
    Request,
    Response,
    Text,
    page_limit,
    route,
)
from orderflow.services.order.messages import KeyReused, Placed, PlaceOrder
from orderflow.services.order.model import OrderStatus, Refund
from orderflow.services.order.storage import (
    CURSOR_PATTERN,
    OrderDetails,
    OrderPage,
    Orders,
    OrderStates,
    OrderView,
    from_cursor,
)

HEADER = "Idempotency-Key"
KEY_MAX = 255
UNIT_SEPARATOR = "\x1f"
PATTERN = (
    rf'^(?:"(?:[ !#-\[\]-~]|\\["\\]){{1,{KEY_MAX}}}"'
    rf"|[!#-+\--:<-\[\]-~]{{1,{KEY_MAX}}})$"
)
"""What `parse_key` takes, for the document."""

_STRING = re.compile(r'^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$')
_BARE = re.compile(r"^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+$")
_ESCAPE = re.compile(r"\\(.)")
RECOUNT_S = 1.0
ADMISSION_RETRY_S = 2
POLL_S = 0.25
JUST_PLACED_S = 1.0
WAITING_RETRY_S = 1
_NOT_FREE = {"properties": {"unit_price": {"minimum": 1}}, "required": ["unit_price"]}
WAIT_MAX_S = 60
PAGE_MAX = 100
READ_ORDERS = Permission(READ.roles | {Role.SHOP}, anonymous=True)
"""Who has the role shop alone reads those of its shop."""

FINAL = frozenset({OrderStatus.COMPLETED, OrderStatus.FAILED})
REPLAYED = (b"idempotency-replayed", b"true")

IDEMPOTENCY_KEY = Parameter(
    HEADER,
    "header",
    "A key of your choice, in quotes, that makes it safe to repeat this request.",
    Annotated[str, msgspec.Meta(extra_json_schema={"pattern": PATTERN}, examples=['"8e03978e-40d5"'])],
)
ORDER_ID = Parameter("order_id", "path", "The order's id.", UUID)
WAIT = Parameter(
    "wait",
    "query",
    "Hold the answer until the order is COMPLETED or FAILED, for at most this many seconds.",
    Annotated[float, msgspec.Meta(ge=0, le=WAIT_MAX_S)],
    default=0.0,
)
STATUS = Parameter("status", "query", "Only orders with this status.", OrderStatus)
UNFINISHED = Parameter(
    "unfinished",
    "query",
    "Only PENDING or PAID orders, oldest first; uses no other parameters than `limit` and `cursor`.",
    bool,
    default=False,
)
LIMIT = page_limit(PAGE_MAX, default=20)
ID_ENDS = Parameter(
    "id_ends",
    "query",
    "Only orders whose id ends like this, among the newest million; ignores `status` and `cursor`.",
    IdEnd,
)
CUSTOMER = Parameter(
    "customer_id",
    "query",
    "Only orders of this customer. A page searches 20,000 orders, and may be empty before the end.",
    Annotated[Text, msgspec.Meta(min_length=1, max_length=100)],
)
SKU = Parameter(
    "sku", "query", "Only orders with this SKU. A page searches 20,000 orders, and may be empty before the end.", Sku
)
CURSOR = Parameter(
    "cursor",
    "query",
    "The `next` of the previous page.",
    Annotated[str, msgspec.Meta(extra_json_schema={"pattern": CURSOR_PATTERN})],
)

_PLACED = {
    "id": Example.ORDER_ID,
    "status": "PENDING",
    "customer_id": Example.CUSTOMER,
    "currency": "EUR",
    "items": [{"sku": Example.SKU, "quantity": 2, "unit_price": 1250}],
    "total": 2500,
    "payment_method": "pm_card_visa",
    "reason": None,
    "refund": "none",
}
_WANTED = {name: _PLACED[name] for name in ("customer_id", "currency", "items", "payment_method")}
_COMPLETED = {**_PLACED, "status": "COMPLETED", "shop": "espresso", "created_at": Example.PLACED_AT}
_HISTORY = [
    {"version": 1, "status": "PENDING", "event": "OrderPlaced", "cause": None, "at": Example.PLACED_AT},
    {
        "version": 2,
        "status": "PAID",
        "event": "PaymentSucceeded",
        "cause": Example.PAID_BY,
        "at": Example.PAID_AT,
    },
    {
        "version": 3,
        "status": "COMPLETED",
        "event": "StockReserved",
        "cause": Example.RESERVED_BY,
        "at": Example.RESERVED_AT,
    },
]
_PAGE = {"orders": [_COMPLETED], "next": None}
_STATES = {
    "unfinished": [{"status": "PAID", "orders": 3, "oldest": Example.PAID_AT}],
    "dwell": [{"status": "PENDING", "event": "PaymentSucceeded", "orders": 940, "median_ms": 35, "slow_ms": 120}],
    "counted_max": 10_000,
    "sample_max": 1_000,
}
_SHOWN = {**_COMPLETED, "history": _HISTORY, "stuck": {}, "stuck_since": None}

_ANSWERS_TO_PLACING = (
    Response(
        201,
        "The order is placed. Payment and reservation follow by themselves.",
        OrderView,
        headers={
            "Location": "Where to read the order.",
            "Idempotency-Replayed": "`true` if an earlier request with this key placed it.",
        },
        example=_PLACED,
    ),
    Response(
        400,
        "It breaks a rule of HTTP, the body is not JSON, or the Idempotency-Key is malformed.",
        problems=(MALFORMED_REQUEST, MALFORMED_KEY),
    ),
    Response(409, "A request with this Idempotency-Key is still under way.", problems=(REQUEST_IN_PROGRESS,)),
    Response(
        422,
        "A field is not valid, or the Idempotency-Key was used for another order.",
        problems=(INVALID_REQUEST, KEY_REUSED),
    ),
    Response(
        503, "Too many orders are unfinished, or the database is unavailable.", problems=(OVERLOADED, UNAVAILABLE)
    ),
)


class NewItem(Item, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line. Prices are the shop's, in minor units of the order's currency."""

    quantity: Annotated[int, msgspec.Meta(ge=1, le=QUANTITY_MAX, examples=[2])]
    unit_price: Annotated[int, msgspec.Meta(ge=0, le=UNIT_PRICE_MAX, examples=[1250])]


class NewOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order to be placed. Its total is computed here: at most 100 x 10,000 x 1,000,000,000 = 10^15 minor
    units, which every JSON reader takes without loss.
    """

    customer_id: Annotated[
        FilledText,
        msgspec.Meta(min_length=1, max_length=100, examples=["customer-42"]),
    ]
    currency: Annotated[
        str,
        msgspec.Meta(min_length=3, max_length=3, extra_json_schema={"enum": sorted(CURRENCIES)}, examples=["EUR"]),
    ]
    items: Annotated[
        tuple[NewItem, ...],
        msgspec.Meta(min_length=1, max_length=ITEMS_MAX, extra_json_schema={"contains": _NOT_FREE}),
    ]
    payment_method: Annotated[
        FilledText,
        msgspec.Meta(min_length=1, max_length=64, examples=["pm_card_visa"]),
    ]


def require_sound(order: NewOrder) -> None:
    """What no single field can say. Raises ProblemError 422 with the field named."""
    fault = fault_of_order(order.currency, order.items)
    if fault is not None:
        pointer, detail = fault
        raise ProblemError(422, f"{pointer}: {detail}", errors=[FieldError(detail=detail, pointer=pointer)])


def with_response(command: PlaceOrder) -> PlaceOrder:
    """The command with the JSON by which placing is answered: the order as it begins."""
    view = OrderView(
        id=command.order_id,
        status=OrderStatus.PENDING,
        customer_id=command.customer_id,
        currency=command.currency,
        items=command.items,
        total=command.total,
        payment_method=command.payment_method,
        reason=None,
        refund=Refund.NONE,
    )
    return msgspec.structs.replace(command, response=msgspec.json.encode(view).decode())


def parse_key(header: str) -> str:
    """The key in the header: a string of RFC 9651 (`"8e03978e"`), or the same without its quotes.

    Raises ProblemError 400: not such a string, or not 1 to 255 characters long.
    """
    text = header.strip(" \t")
    quoted = _STRING.fullmatch(text)
    if quoted is not None:
        key = _ESCAPE.sub(r"\1", quoted[1])
    elif _BARE.fullmatch(text):
        key = text
    else:
        raise _malformed('expected a text in quotes, such as "8e03978e-40d5"')
    if not 1 <= len(key) <= KEY_MAX:
        raise _malformed(f"expected 1 to {KEY_MAX} characters")
    return key


def of_shop(key: str, shop: str | None) -> str:
    """The key among those of its shop. What stands between the two can be in neither."""
    return key if shop is None else f"{shop}{UNIT_SEPARATOR}{key}"


def fingerprint(order: msgspec.Struct) -> str:
    """Equal for equal orders, however their JSON was spaced and sorted."""
    return hashlib.blake2b(msgspec.json.encode(order), digest_size=16).hexdigest()


class InFlight:
    """The keys whose first request is being carried out in this process."""

    def __init__(self) -> None:
        self._keys: set[str] = set()

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Raises ProblemError 409 while another request holds the key."""
        if key in self._keys:
            detail = f"a request with this {HEADER} is still being carried out"
            raise ProblemError(409, detail, kind=REQUEST_IN_PROGRESS, retry_after_s=1)
        self._keys.add(key)
        try:
            yield
        finally:
            self._keys.discard(key)


def key_reused() -> ProblemError:
    """422, as the draft has it for a key that comes with another content."""
    detail = "was used for an order with different content"
    named = FieldError(detail=detail, parameter=HEADER)
    return ProblemError(422, f"{HEADER}: {detail}", kind=KEY_REUSED, errors=[named])


def _malformed(detail: str) -> ProblemError:
    named = FieldError(detail=detail, parameter=HEADER)
    return ProblemError(400, f"{HEADER}: {detail}", kind=MALFORMED_KEY, errors=[named])


class Admission:
    """Refuses orders while `at_most` are unfinished, in all processes together; near the bound it is a guess.

    The orders are counted once a second while orders come, beside the requests and never by one; those let
    in here since that count began are added.
    """

    def __init__(self, orders: Orders, clock: Clock, signals: Signals, at_most: int) -> None:
        self._orders = orders
        self._signals = signals
        self._clock = clock
        self._at_most = at_most
        self._counted = 0
        self._let_in = 0
        self._counted_at = -RECOUNT_S
        self._counting: asyncio.Task[None] | None = None

    def admit(self) -> None:
        """Let one in. Raises ProblemError 503 with Retry-After."""
        if self._counting is None and self._clock.monotonic() - self._counted_at >= RECOUNT_S:
            self._counted += self._let_in
            self._let_in = 0
            self._counting = asyncio.get_running_loop().create_task(self._count())
        if self._counted + self._let_in >= self._at_most:
            detail = f"{self._at_most} orders or more are unfinished"
            raise ProblemError(503, detail, kind=OVERLOADED, retry_after_s=ADMISSION_RETRY_S)
        self._let_in += 1

    async def _count(self) -> None:
        try:
            self._counted = await self._orders.count_unfinished(self._at_most)
        except StoreUnavailableError:
            """Whoever wants to place an order is told by placing it."""
        except Exception as error:  # noqa: BLE001  # a defect here must be told, and must not go on unseen
            self._signals.emit(TaskFailed("order", "admission", error))
        finally:
            self._counted_at = self._clock.monotonic()
            self._counting = None


class UnderWay(NamedTuple):
    """An order that was just placed. After `until` another process may have ended it long ago."""

    shop: str | None
    until: float


class Finishing:
    """Wakes who waits for an order: by this process's own commits, and by one poll a process for orders that
    another process finishes. The poll runs only while somebody waits.

    Most who wait have just placed the order here. It is known to be under way, so it is not read before they wait.
    """

    def __init__(self, orders: Orders, clock: Clock, stopping: asyncio.Event, at_most: int) -> None:
        self._orders = orders
        self._clock = clock
        self._stopping = stopping
        self._at_most = at_most
        self._waiting: dict[UUID, set[asyncio.Future[None]]] = {}
        self._under_way: dict[UUID, UnderWay] = {}
        self._count = 0
        self._poll: asyncio.Task[None] | None = None

    def notice(self, signal: Signal) -> None:
        """A subscriber of signals."""
        if not (self._waiting or self._under_way) or not isinstance(signal, BatchCommitted):
            return
        for handled in signal.handled:
            for event in handled.caused:
                if isinstance(event, OrderCompleted | OrderFailed):
                    self._under_way.pop(event.order_id, None)
                    self._wake(event.order_id)

    def placed(self, order_id: UUID, shop: str | None) -> None:
        """This process has just stored the order."""
        now = self._clock.monotonic()
        while self._under_way:
            oldest = next(iter(self._under_way))
            if self._under_way[oldest].until > now:
                break
            del self._under_way[oldest]
        self._under_way[order_id] = UnderWay(shop, now + JUST_PLACED_S)

    def is_under_way(self, order_id: UUID, shop: str | None) -> bool:
        """Whether it was just placed here and has not ended here. `shop`: only as an order of that shop."""
        order = self._under_way.get(order_id)
        return order is not None and order.until > self._clock.monotonic() and shop in (None, order.shop)

    def expect(self, order_id: UUID) -> Expectation:
        """To be entered before the order is read, so that its end cannot fall between reading and waiting."""
        return Expectation(self, order_id)

    def enter(self, order_id: UUID) -> asyncio.Future[None] | None:
        """None when too many wait already, or the process is stopping."""
        if self._count >= self._at_most or self._stopping.is_set():
            return None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(order_id, set()).add(future)
        self._count += 1
        if self._poll is None:
            self._poll = loop.create_task(self._watch())
        return future

    def require_stopping(self) -> None:
        """Why nobody can wait. Raises ProblemError 503 with Retry-After: too many do."""
        if not self._stopping.is_set():
            detail = f"{self._at_most} requests are waiting for orders already; ask without `wait`, or later"
            raise ProblemError(503, detail, kind=OVERLOADED, retry_after_s=WAITING_RETRY_S)

    def leave(self, order_id: UUID, future: asyncio.Future[None]) -> None:
        self._count -= 1
        futures = self._waiting.get(order_id)
        if futures is not None:
            futures.discard(future)
            if not futures:
                del self._waiting[order_id]

    def _wake(self, order_id: UUID) -> None:
        for future in self._waiting.get(order_id, ()):
            if not future.done():
                future.set_result(None)

    async def _watch(self) -> None:
        try:
            while self._waiting and not self._stopping.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._stopping.wait()
                if not self._stopping.is_set():
                    await self._look()
        finally:
            self._poll = None
        if self._stopping.is_set():
            for order_id in list(self._waiting):
                self._wake(order_id)

    async def _look(self) -> None:
        if self._waiting:
            with suppress(StoreUnavailableError):
                for order_id in await self._orders.finished_among(list(self._waiting)):
                    self._wake(order_id)


class Expectation:
    """`with finishing.expect(order_id) as expectation:` read the order, then `await expectation.met(seconds)`."""

    def __init__(self, finishing: Finishing, order_id: UUID) -> None:
        self._finishing = finishing
        self._order_id = order_id
        self._future: asyncio.Future[None] | None = None

    def __enter__(self) -> Expectation:
        self._future = self._finishing.enter(self._order_id)
        return self

    def __exit__(self, *_: object) -> None:
        if self._future is not None:
            self._finishing.leave(self._order_id, self._future)

    async def met(self, timeout_s: float, gone: asyncio.Future[None] | None = None) -> bool:
        """True when the order has ended (or the process stops); False after `timeout_s`, or when `gone` is done.

        Raises ProblemError 503 with Retry-After: too many wait already.
        """
        if self._future is None:
            self._finishing.require_stopping()
            return False
        waited = {self._future} if gone is None else {self._future, gone}
        await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return self._future.done()


class OrderApi:
    """The handlers, with what they share."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._orders = Orders(context.database)
        self._admission = Admission(
            self._orders, context.clock, context.signals, context.config.unfinished_orders_max
        )
        self._finishing = Finishing(self._orders, context.clock, context.stopping, context.config.http_waiting_max)
        self._in_flight = InFlight()
        context.signals.subscribe(self._finishing.notice)

    async def place(self, request: Request[NewOrder]) -> Reply:
        """Place an order.

        Stores the order and answers; payment and stock follow by themselves. Each SKU may appear in one line only,
        and the total must be at least 1 minor unit. Send an Idempotency-Key, and repeat the same request if no
        answer comes: the order is placed once.
        """
        order = request.body
        require_sound(order)
        self._admission.admit()
        header = request.values[HEADER]
        if header is None:
            return await self._submit(request)
        key = of_shop(parse_key(header), request.caller.shop)
        with self._in_flight.hold(key):
            return await self._submit(request, key)

    async def show(self, request: Request[None]) -> Reply:
        """Show an order, its history, and where it is stuck.

        The order as it stands, every step that brought it there, and each consumer at which it waits for an
        operator. With `wait`, the answer comes when the order has ended or the time is up.
        """
        order_id: UUID = request.values["order_id"]
        wait_s: float = request.values["wait"]
        shop = request.caller.reads_shop
        if not wait_s:
            return Reply(body=await self._named(request, await self._show(order_id, shop)))
        with self._finishing.expect(order_id) as expectation:
            order = None if self._finishing.is_under_way(order_id, shop) else await self._show(order_id, shop)
            if order is None or order.status not in FINAL:
                ended = await expectation.met(wait_s, request.gone)
                if order is None or ended:
                    order = await self._show(order_id, shop)
        return Reply(body=await self._named(request, order))

    async def page(self, request: Request[None]) -> Reply:
        """List orders, newest first.

        Pages of orders, of one status or all. The `next` of a page is the `cursor` of the next one.
        """
        shop = request.caller.reads_shop
        if (digits := request.values["id_ends"]) is not None:
            ending = await self._orders.ending(digits, request.values["limit"], shop)
            return Reply(body=await self._all_named(request, ending))
        before: UUID | None = None
        if (cursor := request.values["cursor"]) is not None:
            try:
                before = from_cursor(cursor)
            except ValueError as error:
                detail = "not a cursor of this list"
                named = FieldError(detail=detail, parameter="cursor")
                raise ProblemError(422, f"cursor: {detail}", errors=[named]) from error
        values, customer_id = request.values, request.values["customer_id"]
        if values["unfinished"]:
            oldest = await self._orders.oldest_unfinished(before, values["limit"], shop)
            return Reply(body=await self._all_named(request, oldest))
        sku, status, limit = values["sku"], values["status"], values["limit"]
        if customer_id is None and sku is None:
            return Reply(body=await self._all_named(request, await self._orders.page(status, before, limit, shop)))
        written_as = None if customer_id is None else await self._written_as(request.caller, customer_id)
        page = await self._orders.search(written_as, sku, status, before, limit, shop)
        return Reply(body=await self._all_named(request, page))

    async def states(self, _: Request[None]) -> Reply:
        """How many orders are under way, and how long orders stay in each state.

        Counts PENDING and PAID orders, up to a bound. How long states last comes from the newest orders: the
        median, and what 95 % of them did not exceed.
        """
        return Reply(body=await self._orders.states())

    async def _written_as(self, caller: Caller, customer_id: str) -> Sequence[str]:
        """What stands for a customer of the caller's shop, or of none, in what is stored. Raises ForbiddenError."""
        if not caller.sees_personal_data:
            raise ForbiddenError(caller, frozenset({Role.OPERATOR, Role.APPROVER}))
        pseudonym = await self._context.customers.find(customer_id, caller.shop)
        return [customer_id] if pseudonym is None else [pseudonym, customer_id]

    async def _named(self, request: Request[None], order: OrderDetails) -> OrderDetails:
        """With the customer's name, for who may see it."""
        if not request.caller.sees_personal_data:
            return order
        names = await self._context.customers.reveal([order.customer_id])
        return msgspec.structs.replace(order, customer_id=names[order.customer_id])

    async def _all_named(self, request: Request[None], page: OrderPage) -> OrderPage:
        if not request.caller.sees_personal_data:
            return page
        names = await self._context.customers.reveal({order.customer_id for order in page.orders})
        orders = (msgspec.structs.replace(each, customer_id=names[each.customer_id]) for each in page.orders)
        return msgspec.structs.replace(page, orders=tuple(orders))

    async def _submit(self, request: Request[NewOrder], key: str | None = None) -> Reply:
        order, customers, shop = request.body, self._context.customers, request.caller.shop
        customer = customers.known(order.customer_id, shop) or await customers.conceal(order.customer_id, shop)
        concealed = msgspec.structs.replace(order, customer_id=customer)
        wanted = PlaceOrder(
            order_id=uuid7(self._context.clock.wall_ms(), self._context.rng),
            customer_id=customer,
            currency=order.currency,
            items=order.items,
            payment_method=order.payment_method,
            idempotency_key=key,
            fingerprint=fingerprint(concealed) if key is not None else "",
            former_fingerprint=fingerprint(order) if key is not None else "",
            shop=shop,
        )
        command = with_response(wanted)
        try:
            placed: Placed = await self._context.commands.submit(
                command, request.caller, traceparent=request.traceparent
            )
        except RefusedError as refused:
            if isinstance(refused.answer, KeyReused):
                raise key_reused() from refused
            raise
        if not placed.replayed:
            self._finishing.placed(placed.order_id, shop)
        location = (b"location", f"/orders/{uuid_text(placed.order_id)}".encode())
        headers = (location, REPLAYED) if placed.replayed else (location,)
        return Reply(201, headers=headers, content=_naming(placed.response, customer, order.customer_id).encode())

    async def _show(self, order_id: UUID, shop: str | None) -> OrderDetails:
        order = await self._orders.show(order_id, shop)
        if order is None:
            raise ProblemError(404, f"there is no order {order_id}")
        return order


def _naming(response: str, customer: str, name: str) -> str:
    """The answer with the customer's name, as the shop has just said it."""
    return response if customer == name else response.replace(customer, msgspec.json.encode(name).decode()[1:-1])


def operations(context: ServiceContext) -> Sequence[Operation]:
    """What the order service offers."""
    api, orders = OrderApi(context), Orders(context.database)
    return (
        *_orders(api),
        route(
            "GET /ops/order-states",
            api.states,
            Response(200, "The current state.", OrderStates, example=_STATES),
            tag=OPERATORS_TAG,
            permission=READ,
        ),
        *CustomerOperations(context.customers, context.store.recovery, orders.of_customers).operations(),
        *Records(orders.records, context.store.recovery).operations(),
    )


def _orders(api: OrderApi) -> Sequence[Operation]:
    return (
        route(
            "POST /orders",
            api.place,
            *_ANSWERS_TO_PLACING,
            parameters=(IDEMPOTENCY_KEY,),
            example=_WANTED,
            tag="orders",
            permission=PlaceOrder.PERMISSION,
        ),
        route(
            "GET /orders",
            api.page,
            Response(200, "A page of orders.", OrderPage, example=_PAGE),
            parameters=(STATUS, CUSTOMER, SKU, LIMIT, CURSOR, ID_ENDS, UNFINISHED),
            tag="orders",
            permission=READ_ORDERS,
        ),
        route(
            "GET /orders/{order_id}",
            api.show,
            Response(200, "The order as it stands.", OrderDetails, example=_SHOWN),
            Response(404, "There is no such order."),
            Response(
                503,
                "Too many requests are waiting already, or the database is unavailable.",
                problems=(OVERLOADED, UNAVAILABLE),
            ),
            parameters=(ORDER_ID, WAIT),
            tag="orders",
            permission=READ_ORDERS,
        ),
    )
