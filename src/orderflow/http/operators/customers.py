"""`/ops/customers`, `/ops/orders/{order_id}/records`: what is held of a customer, and to forget him."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

import msgspec

from orderflow.core.access import APPROVE
from orderflow.core.operations.model import ConfirmationNeededError
from orderflow.core.operations.port import RecoveryStore
from orderflow.core.store import LogEntry
from orderflow.http import validation
from orderflow.http.operation import Example, Operation, Parameter, Reply, Request, Response
from orderflow.http.operators.asking import CONFIRM, NOT_THERE, Text, act_of, operator, route
from orderflow.http.problems import ProblemError
from orderflow.privacy.customers import Customers

PIECES_MAX = 10
PSEUDONYM = "enc1.q83vEjRWeJCrze8S.l3ZpWmVAc9cXQ0V1pS0yQeQm1e0tT2yQ"

Name = Annotated[validation.Text, msgspec.Meta(min_length=1, max_length=100, examples=[Example.CUSTOMER])]


class CustomerOrdersRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose orders: the customer of a shop, or of no shop; `after`: the `next` of the answer before."""

    customer_id: Name
    shop: Name | None = None
    after: UUID | None = None


class CustomerOrders(msgspec.Struct, frozen=True, kw_only=True):
    """Ids of orders of the customer, oldest first. `next`, if it is there: ask again, from there on.

    `written_as` is what stands for the customer in what is stored of them.
    """

    written_as: Sequence[str]
    orders: Sequence[UUID]
    next: UUID | None


class EraseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to erase: the customer of a shop, or of no shop; why, without naming the customer; `confirmed`: a person
    has confirmed it.
    """

    customer_id: Name
    shop: Name | None = None
    reason: Text = ""
    confirmed: bool = False


class CustomerErased(msgspec.Struct, frozen=True, kw_only=True):
    """The key is destroyed, in every process: `pseudonym` no longer names anyone."""

    pseudonym: str


class CustomerOperations:
    """Of the service at which names of customers come in. `search` looks through the orders after one, a piece at a
    time in order of id, for those of a shop's customers that are written so. It returns them, and the last order that
    it looked at: None when there are no more.
    """

    def __init__(
        self,
        customers: Customers,
        log: RecoveryStore,
        search: Callable[[Collection[str], str | None, UUID | None], Awaitable[tuple[Sequence[UUID], UUID | None]]],
    ) -> None:
        self._customers = customers
        self._log = log
        self._search = search

    async def orders(self, request: Request[CustomerOrdersRequest]) -> Reply:
        """The orders of a customer.

        For answering customers who ask what is stored about them. There is no index of customers, so each answer
        covers a part of the orders, by id.
        """
        APPROVE.require(request.caller)
        asked = request.body
        pseudonym = await self._customers.find(asked.customer_id, asked.shop)
        written_as = [asked.customer_id] if pseudonym is None else [pseudonym, asked.customer_id]
        found: list[UUID] = []
        last = asked.after
        for _ in range(PIECES_MAX):
            orders, last = await self._search(written_as, asked.shop, last)
            found += orders
            if last is None:
                break
        return Reply(body=CustomerOrders(written_as=written_as, orders=found, next=last))

    async def erase(self, request: Request[EraseRequest]) -> Reply:
        """Erase a customer for good, by destroying the key that encrypts the name.

        From then on, rows, topics, dead letters and backups hold a pseudonym that nobody can read; the books stay as
        they are. Names written in clear text, before names were encrypted, are not changed.
        """
        asked = request.body
        act = act_of(request, reason=asked.reason, confirmed=asked.confirmed)
        APPROVE.require(act.caller)
        if not (act.confirmed and act.reason.strip()):
            raise ConfirmationNeededError("This erases a customer for good: confirm it, and give a reason.")
        pseudonym = await self._customers.find(asked.customer_id, asked.shop)
        if pseudonym is None:
            raise ProblemError(404, "there is no customer of that name, or names are not encrypted here")
        target = f"customer {pseudonym}"
        await self._log.log(LogEntry(act, "erase", target, "The key is about to be destroyed."))
        await self._customers.erase(asked.customer_id, asked.shop, act.who, act.reason)
        await self._log.log(LogEntry(act, "erase", target, "The key is destroyed."))
        return Reply(body=CustomerErased(pseudonym=pseudonym))

    def operations(self) -> Sequence[Operation]:
        meant = {"customer_id": Example.CUSTOMER}
        found = CustomerOrders(written_as=[PSEUDONYM, Example.CUSTOMER], orders=[UUID(Example.ORDER_ID)], next=None)
        return (
            route(
                "POST /ops/customers/orders",
                self.orders,
                Response(200, "A part of them", CustomerOrders, example=found),
                example=meant,
                permission=APPROVE,
            ),
            route(
                "POST /ops/customers/erase",
                self.erase,
                Response(
                    200, "The name can no longer be read", CustomerErased, example=CustomerErased(pseudonym=PSEUDONYM)
                ),
                NOT_THERE,
                CONFIRM,
                parameters=(operator,),
                example={**meant, "reason": "asked for by letter of 26 November", "confirmed": True},
                permission=APPROVE,
            ),
        )


class OrderRecords(msgspec.Struct, frozen=True, kw_only=True):
    """Every row that the service holds of an order, by table: its own, and those of inbox (`processed_events`),
    outbox and intents. Values are as they are stored.
    """

    order_id: UUID
    records: dict[str, Any]


_ORDER_ID = Parameter("order_id", "path", "The order's id", UUID)
_HELD = OrderRecords(
    order_id=UUID(Example.ORDER_ID),
    records={"notifications": [{"outcome": "completed", "customer_id": PSEUDONYM, "at": Example.PLACED_AT}]},
)


class Records:
    """What a service holds of one order. `read` gives rows by table, as they are or as JSON; `store` has what came in
    and goes out.
    """

    def __init__(self, read: Callable[[UUID], Awaitable[Mapping[str, Any]]], store: RecoveryStore) -> None:
        self._read = read
        self._store = store

    async def of_order(self, request: Request[None]) -> Reply:
        """Every row that this service holds of an order.

        For answering customers who ask what is stored about them. The customer's name is as stored: encrypted.
        """
        APPROVE.require(request.caller)
        order_id: UUID = request.values["order_id"]
        trail = await self._store.trail(str(order_id))
        messages = {"processed_events": trail.received, "intents": trail.asked}
        held = {**await self._read(order_id), **messages, "outbox": await self._store.outbox_of(str(order_id))}
        some = ((table, rows) for table, rows in held.items() if rows)
        records = {table: msgspec.json.decode(rows) if isinstance(rows, str) else rows for table, rows in some}
        if not records:
            raise ProblemError(404, f"nothing is held of order {order_id}")
        return Reply(body=OrderRecords(order_id=order_id, records=records))

    def operations(self) -> Sequence[Operation]:
        return (
            route(
                "GET /ops/orders/{order_id}/records",
                self.of_order,
                Response(200, "By table", OrderRecords, example=_HELD),
                NOT_THERE,
                parameters=(_ORDER_ID,),
                permission=APPROVE,
            ),
        )
