"""Reads the books out of the databases, one snapshot each, hundreds of orders at a time; tells when all rests."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from orderflow.audit.books import (
    BankEntry,
    InboxRow,
    Listener,
    OrderBooks,
    OrderDraft,
    OrderRow,
    OrderStepRow,
    OutboxRow,
    ParkedRow,
    PaymentRow,
    RefundStepRow,
    ReservationRow,
    ServiceBooks,
    StockBooks,
)
from orderflow.core.envelopes import header_text
from orderflow.core.inbox import InboxState, Waits
from orderflow.core.messages import Event
from orderflow.core.postgres.queries import load_queries
from orderflow.core.postgres.recovery import counting_query, decode_headers
from orderflow.core.postgres.sessions import Connection, connect, leave, translated
from orderflow.core.service import Service
from orderflow.core.transport import Transport
from orderflow.events.base import order_id_of
from orderflow.events.inventory import ReservedLine
from orderflow.events.order import Item
from orderflow.registry import SAGA, service_names, service_of
from orderflow.services.order.model import Obstacle
from orderflow.services.payment.model import BY_OPERATOR

BANK = "bank"
STATEMENT_TIMEOUT_MS = 600_000


class Databases:
    """Asks named queries. Nothing is ever written."""

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        self._connections = connections
        self._queries = load_queries("orderflow.audit")
        self._counting = counting_query()
        self.services = tuple(name for name in service_names() if name in connections)
        """The saga's, and those that other distributions add."""

    async def ask(self, database: str, query: str, *arguments: object) -> Sequence[Any]:
        """All rows of a named query. Raises StoreUnavailableError."""
        return await self.run(database, self._queries[query], *arguments)

    async def run(self, database: str, statement: str, *arguments: object) -> Sequence[Any]:
        """All rows. Raises StoreUnavailableError."""
        connection = self._connections[database]
        with translated(connection):
            rows: Sequence[Any] = await connection.fetch(statement, *arguments)
        return rows

    async def waiting(self, service: str) -> Sequence[Any]:
        """What waits there, by consumer, as the service itself counts it. Raises StoreUnavailableError."""
        return await self.run(service, self._counting)

    @asynccontextmanager
    async def snapshots(self) -> AsyncIterator[None]:
        """Within, each database is seen as of one moment: the order service first, the bank last.

        So whatever the first has seen done, the others have seen as well. Raises StoreUnavailableError.
        """
        async with AsyncExitStack() as stack:
            for connection in self._connections.values():
                # Also at the end: a session that was lost meanwhile says so when it is left.
                stack.enter_context(translated(connection))
                await stack.enter_async_context(connection.transaction(isolation="repeatable_read", readonly=True))
                await connection.execute("SELECT 1")
            yield


def audited() -> tuple[str, ...]:
    """The databases of an audit, in the order in which they are seen."""
    return (*service_names(), BANK)


def topics() -> tuple[str, ...]:
    """Every topic that a service writes."""
    return tuple(dict.fromkeys(topic for name in service_names() for topic in service_of(name).publishes))


@asynccontextmanager
async def opened(urls: Mapping[str, str]) -> AsyncIterator[Databases]:
    """Connect to the databases of `audited`, each by its URL. Raises StoreUnavailableError, SchemaBehindError."""
    async with AsyncExitStack() as stack:
        connections: dict[str, Connection] = {}
        for database in (name for name in audited() if name in urls):
            connection = await connect(
                urls[database],
                application_name="orderflow audit",
                statement_timeout_ms=STATEMENT_TIMEOUT_MS,
                # While one database is read, the snapshots of the others wait.
                settings={"idle_in_transaction_session_timeout": str(STATEMENT_TIMEOUT_MS)},
                writable=False,
            )
            stack.push_async_callback(leave, connection)
            connections[database] = connection
        yield Databases(connections)


AT_ONCE = 2_000
LONG_S = 600
"""After that much the bank, or the log, has not answered for long."""
LEDGER_MARGIN = timedelta(seconds=60)
"""How far the times of two rows of an outbox can be out of the order of their numbers."""
FIRST_ID = 1
ALWAYS = UUID(int=0)
ANSWERED = re.compile(r'"id" *: *"([^"]*)"')

Drafts = defaultdict[str, OrderDraft]


@dataclass(frozen=True, slots=True)
class Ledgers:
    """From which order on everything is there: ids of orders begin with the time at which they were placed.

    `outboxes`: by service, the first order of which its outbox has kept everything; none where it is empty.
    `listeners`: the first of which each has heard everything that its publishers' outboxes have kept; None where they
    have kept nothing.
    """

    outboxes: Mapping[str, UUID] = field(default_factory=dict)
    listeners: Mapping[Listener, UUID | None] = field(default_factory=dict)

    def of(self, key: str) -> tuple[frozenset[str], tuple[Listener, ...]]:
        """What of it holds for this key. When a key that is no order's was new, nobody knows."""
        is_order = order_id_of(key) is not None
        outboxes = {
            name for name, first in self.outboxes.items() if first == ALWAYS or (is_order and key >= str(first))
        }
        listeners = tuple(each for each, first in self.listeners.items() if is_order and first and key >= str(first))
        return frozenset(outboxes), listeners


class Collector:
    """Everything that an audit looks at order by order, from within `Databases.snapshots`."""

    def __init__(self, databases: Databases, ledgers: Ledgers) -> None:
        self._databases = databases
        self._ledgers = ledgers
        self._business: Mapping[str, Callable[[Drafts, Sequence[UUID]], Awaitable[None]]] = {
            "order": self._read_order,
            "payment": self._read_payment,
            "inventory": self._read_inventory,
            "notification": self._read_notification,
        }
        self._items = msgspec.json.Decoder(tuple[Item, ...])
        self._lines = msgspec.json.Decoder(tuple[ReservedLine, ...])
        self._stuck = msgspec.json.Decoder(dict[str, Obstacle])

    async def orders(self, keys: Collection[str]) -> AsyncIterator[OrderBooks]:
        """The books of these orders, by id; of those that no database knows, too."""
        ordered = sorted(keys)
        for start in range(0, len(ordered), AT_ONCE):
            drafts = await self._read(ordered[start : start + AT_ONCE])
            for key in ordered[start : start + AT_ONCE]:
                yield drafts[key].finish(key, *self._ledgers.of(key))

    async def stock(self) -> list[StockBooks]:
        """Every SKU."""
        held = {row["sku"]: row["held"] for row in await self._databases.ask("inventory", "held")}
        rows = await self._databases.ask("inventory", "stock")
        known = [StockBooks(**{**row, "held": held.pop(row["sku"], 0)}) for row in rows]
        nowhere = {"on_hand": 0, "reserved": 0, "adjusted": 0, "moved": 0}
        return known + [StockBooks(sku=sku, held=quantity, **nowhere) for sku, quantity in held.items()]

    async def waiting(self) -> dict[str, int]:
        """Events that wait at any consumer, by how they wait, also those whose key is no order's id."""
        rows = [row for service in self._databases.services for row in await self._databases.waiting(service)]
        return {str(each): sum(row[each] for row in rows) for each in Waits}

    async def _read(self, keys: Sequence[str]) -> Drafts:
        """The databases side by side."""
        drafts: Drafts = defaultdict(OrderDraft)
        ids = [order_id for key in keys if (order_id := order_id_of(key)) is not None]
        await asyncio.gather(
            *(self._read_service(name, drafts, ids, keys) for name in self._databases.services),
            self._read_bank(drafts, ids),
        )
        return drafts

    async def _read_service(self, name: str, drafts: Drafts, ids: Sequence[UUID], keys: Sequence[str]) -> None:
        """What came in and went out is the same at every service; what it has made of that only ours are asked."""
        if name in self._business:
            await self._business[name](drafts, ids)
        await self._read_passage(name, drafts, keys)

    async def _read_order(self, drafts: Drafts, ids: Sequence[UUID]) -> None:
        await self._read_orders(drafts, ids)
        await self._read_steps(drafts, ids)

    async def _read_orders(self, drafts: Drafts, ids: Sequence[UUID]) -> None:
        for row in await self._databases.ask("order", "orders", ids):
            drafts[str(row["order_id"])].order = OrderRow(
                status=row["status"],
                version=row["version"],
                event=row["event"],
                currency=row["currency"],
                total=row["total"],
                lines=tuple((item.sku, item.quantity) for item in self._items.decode(row["items"])),
                refund=row["refund"],
                customer=row["customer_id"],
                items_total=row["items_total"],
                early=row["early"] or "",
                since=row["since"],
            )
        for row in await self._databases.ask("order", "flow", ids):
            stuck = self._stuck.decode(row["stuck"])
            drafts[str(row["order_id"])].stuck = {consumer: each.state for consumer, each in stuck.items()}
        for row in await self._databases.ask("order", "keys", ids):
            key = (row["idempotency_key"], _answered(row["response"]))
            drafts[str(row["order_id"])].keys.append(key)

    async def _read_steps(self, drafts: Drafts, ids: Sequence[UUID]) -> None:
        for row in await self._databases.ask("order", "history", ids):
            cause, at = str(row["cause"]), row["at"]
            step = OrderStepRow(row["version"], row["from_status"], row["event"], row["to_status"], cause, at)
            drafts[str(row["order_id"])].history.append(step)
        for row in await self._databases.ask("order", "refunds", ids):
            refund = RefundStepRow(row["refund"], row["event"], str(row["cause"]))
            drafts[str(row["order_id"])].refund_steps.append(refund)

    async def _read_payment(self, drafts: Drafts, ids: Sequence[UUID]) -> None:
        for row in await self._databases.ask("payment", "payments", ids):
            drafts[str(row["order_id"])].payment = PaymentRow(
                status=row["status"],
                currency=row["currency"],
                amount=row["amount"],
                captured=row["captured"],
                refunded=row["refunded"],
                by_operator=BY_OPERATOR in (row["charge_reference"], row["reason"]),
                refund_by_operator=row["refund_reference"] == BY_OPERATOR,
                customer=row["customer_id"],
                since=row["changed_at"],
            )

    async def _read_bank(self, drafts: Drafts, ids: Sequence[UUID]) -> None:
        for row in await self._databases.ask(BANK, "bank", ids):
            entry = BankEntry(row["kind"], row["key"], row["currency"], row["amount"], row["at"])
            drafts[str(row["order_id"])].bank.append(entry)

    async def _read_inventory(self, drafts: Drafts, ids: Sequence[UUID]) -> None:
        for row in await self._databases.ask("inventory", "reservations", ids):
            lines = tuple((line.sku, line.quantity) for line in self._lines.decode(row["lines"]))
            reservation = ReservationRow(row["status"], lines, row["created_at"])
            drafts[str(row["order_id"])].reservations.append(reservation)
        for row in await self._databases.ask("inventory", "movements", ids):
            drafts[str(row["order_id"])].movements.append((row["sku"], row["quantity"]))

    async def _read_notification(self, drafts: Drafts, ids: Sequence[UUID]) -> None:
        for row in await self._databases.ask("notification", "notifications", ids):
            drafts[str(row["order_id"])].notifications.append(row["outcome"])

    async def _read_passage(self, service: str, drafts: Drafts, keys: Sequence[str]) -> None:
        """What came in, waits, is asked, and went out."""
        for row in await self._databases.ask(service, "inbox", keys):
            event_id, state = str(row["event_id"]), InboxState(row["state"]).word
            noted = InboxRow(service, row["consumer"], row["identity"], event_id, state, row["at"])
            drafts[row["key"]].inbox.append(noted)
        for row in await self._databases.ask(service, "parked", keys):
            parked = ParkedRow(
                service,
                row["consumer"],
                row["event_type"],
                InboxState(row["state"]).word,
                row["attempts"],
                row["identity"],
                row["parked_at"],
                row["topic"],
            )
            drafts[row["key"]].parked.append(parked)
        for row in await self._databases.ask(service, "intents", keys, LONG_S):
            draft = drafts[row["message_key"]]
            draft.intents.append(row["key"])
            draft.intents_overdue |= row["overdue"]
        for row in await self._databases.ask(service, "outbox", [key.encode() for key in keys]):
            headers = decode_headers(row["headers"])
            number = header_text(headers, "ce_sequence")
            sent = OutboxRow(
                service,
                header_text(headers, "ce_source"),
                row["topic"],
                header_text(headers, "ce_type").removeprefix("orderflow.").rpartition(".v")[0],
                int(number) if number.isdecimal() else 0,
                str(row["event_id"]),
                row["is_sent"],
                row["created_at"],
                header_text(headers, "ce_causationid"),
            )
            drafts[row["key"]].outbox.append(sent)
        for row in await self._databases.ask(service, "streams", keys):
            drafts[row["key"]].emitted[service, row["source"]] = row["emitted"]


async def ledgers(databases: Databases) -> Ledgers:
    """As of now. What is purged of an outbox is the oldest. A service that has joined later than others need not have
    heard of what was before: topics expire.
    """
    outboxes: dict[str, UUID] = {}
    for service in databases.services:
        for row in await databases.ask(service, "ledger"):
            kept = row["created_at"] + LEDGER_MARGIN
            outboxes[service] = ALWAYS if row["id"] == FIRST_ID else _first_since(kept)
    listeners: dict[Listener, UUID | None] = {}
    for declared in (each for name in databases.services for each in listeners_of(service_of(name))):
        [row] = await databases.ask(declared.service, "begun")
        first = await databases.ask(declared.service, "first_received", declared.consumer, sorted(declared.types))
        listener = as_received(declared, {each["type"]: each["at"] for each in first})
        kept_by = [outboxes.get(name) for name in publishers(listener)]
        is_kept = bool(kept_by) and None not in kept_by
        listeners[listener] = max(_first_since(row["at"]), *filter(None, kept_by)) if is_kept else None
    return Ledgers(outboxes, listeners)


def as_received(listener: Listener, first: Mapping[str, datetime]) -> Listener:
    """Without the types that it may never have handled; `first` is when it had the first event of each, "" any other.

    What it has had from its first event on, it has always handled. Of a type that came later nobody knows whether it
    was passed over before.
    """
    if not first:
        return listener
    begun = min(first.values())
    late = sorted((name, at) for name, at in first.items() if name in listener.types and at > begun)
    return replace(listener, types=listener.types.intersection(first), late=tuple(late))


def listeners_of(service: Service) -> Iterator[Listener]:
    """The consumers of which nothing is known but what they read; of the saga's it is known what becomes of that."""
    if service.name in SAGA:
        return
    for each in service.subscriptions:
        read = [type_ for type_ in service.handlers if issubclass(type_, Event) and type_.TOPIC in each.topics]
        once = {type_.TYPE: type_.TOPIC for type_ in read if type_.ONCE}
        yield Listener(service.name, each.consumer, frozenset(once), frozenset(once.values()))


def publishers(listener: Listener) -> Sequence[str]:
    """The services that write what it reads."""
    return [name for name in service_names() if listener.topics & set(service_of(name).publishes)]


def _first_since(moment: datetime) -> UUID:
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def _answered(response: str) -> str:
    """The order that a stored answer is about; "" when it names none."""
    found = ANSWERED.search(response)
    return found[1] if found else ""


LOOK_EVERY_S = 0.25


class Look(NamedTuple):
    """What was under way; `written` counts the events that were ever published, service by service."""

    services: Sequence[ServiceBooks]
    written: Sequence[int]

    @property
    def is_quiet(self) -> bool:
        return all(service.is_at_rest for service in self.services)


async def look(databases: Databases, transport: Transport) -> Look:
    """One look at each service and at the log. Raises StoreUnavailableError, TransportUnavailableError."""
    rows = {name: (await databases.ask(name, "under_way"))[0] for name in databases.services}
    services: list[ServiceBooks] = []
    for service in map(service_of, databases.services):
        row = rows[service.name]
        lag = {
            each.consumer: sum(part.lag for part in await transport.lag(each.consumer, each.topics))
            for each in service.subscriptions
        }
        services.append(
            ServiceBooks(
                service=service.name,
                unsent=row["unsent"],
                open_intents=row["open_intents"],
                retrying=row["retrying"],
                lag=lag,
            )
        )
    return Look(services, [row["written"] for row in rows.values()])


async def wait_for_rest(
    databases: Databases, transport: Transport, timeout_s: float, told: Callable[[Look], None]
) -> Look:
    """Look until all is quiet, twice with nothing written between, or until the time is up; the last look.

    Each look is `told`.

    One quiet look is not enough: an event can move on from a part that was not yet looked at to one that was.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    before = await look(databases, transport)
    while True:
        now = await look(databases, transport)
        told(now)
        if (now.is_quiet and before == now) or loop.time() >= deadline:
            return now
        before = now
        await asyncio.sleep(LOOK_EVERY_S)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far everything had been written at one moment: each service's events, and the ends of the partitions."""

    written: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[tuple[str, int], int] = field(default_factory=dict)

    async def is_passed(self, databases: Databases, transport: Transport) -> bool:
        """All events until then are on the log, and every consumer has committed its offsets until then.

        Raises StoreUnavailableError, TransportUnavailableError.
        """
        for name, written in self.written.items():
            first = (await databases.ask(name, "under_way"))[0]["first"]
            if first is not None and first <= written:
                return False
        for service in map(service_of, databases.services):
            for each in service.subscriptions:
                for part in await transport.lag(each.consumer, each.topics):
                    if part.position < self.ends.get((part.topic, part.partition), 0):
                        return False
        return True


async def mark(databases: Databases, transport: Transport) -> Mark:
    """As of now: taken after a look, so that what it has seen written is before the mark."""
    written = {name: (await databases.ask(name, "under_way"))[0]["written"] for name in databases.services}
    services = map(service_of, databases.services)
    topics = sorted({topic for service in services for topic in service.reads})
    ends = await transport.ends(topics)
    return Mark(written, {place: end for place, (_, end) in ends.items()})
