"""Reads the books of chosen orders out of the databases: some hundreds at a time, a handful of statements each."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from orderflow.audit.books import (
    BankEntry,
    InboxRow,
    OrderBooks,
    OrderRow,
    OutboxRow,
    ParkedRow,
    PaymentRow,
    RefundStep,
    ReservationRow,
    Step,
    StockBooks,
)
from orderflow.audit.databases import BANK, SERVICES, Databases
from orderflow.audit.draft import OrderDraft
from orderflow.events.base import order_id_of
from orderflow.events.inventory import ReservedLine
from orderflow.events.order import Item
from orderflow.messaging.cloudevents import header_text
from orderflow.messaging.inbox import InboxState, Waits
from orderflow.messaging.stores.postgres.core_rows import decode_headers
from orderflow.order.model import Obstacle
from orderflow.payment.model import BY_OPERATOR

AT_ONCE = 2_000
LONG_S = 600
"""After that much the bank, or the log, has not answered for long."""
LEDGER_MARGIN = timedelta(seconds=60)
"""How far the times of two rows of an outbox can be out of the order of their numbers."""
FIRST_ID = 1
ANSWERED = re.compile(r'"id" *: *"([^"]*)"')

Drafts = defaultdict[str, OrderDraft]


class Collector:
    """Everything that an audit looks at order by order, from within `Databases.snapshots`."""

    def __init__(self, databases: Databases, ledgers: Mapping[str, UUID]) -> None:
        self._databases = databases
        self._ledgers = ledgers
        self._items = msgspec.json.Decoder(tuple[Item, ...])
        self._lines = msgspec.json.Decoder(tuple[ReservedLine, ...])
        self._stuck = msgspec.json.Decoder(dict[str, Obstacle])

    async def orders(self, keys: Collection[str]) -> AsyncIterator[OrderBooks]:
        """The books of these orders, by id; of those that no database knows, too."""
        ordered = sorted(keys)
        for start in range(0, len(ordered), AT_ONCE):
            drafts = await self._read(ordered[start : start + AT_ONCE])
            for key in ordered[start : start + AT_ONCE]:
                ledgers = frozenset(name for name, first in self._ledgers.items() if key >= str(first))
                yield drafts[key].finish(key, ledgers)

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
            self._read_order(drafts, ids, keys),
            self._read_payment(drafts, ids, keys),
            self._read_inventory(drafts, ids, keys),
            self._read_notification(drafts, ids, keys),
            self._read_bank(drafts, ids),
        )
        return drafts

    async def _read_order(self, drafts: Drafts, ids: Sequence[UUID], keys: Sequence[str]) -> None:
        await self._read_orders(drafts, ids)
        await self._read_steps(drafts, ids)
        await self._read_passage("order", drafts, keys)

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
            step = Step(row["version"], row["from_status"], row["event"], row["to_status"], cause, at)
            drafts[str(row["order_id"])].history.append(step)
        for row in await self._databases.ask("order", "refunds", ids):
            refund = RefundStep(row["refund"], row["event"], str(row["cause"]))
            drafts[str(row["order_id"])].refund_steps.append(refund)

    async def _read_payment(self, drafts: Drafts, ids: Sequence[UUID], keys: Sequence[str]) -> None:
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
        await self._read_passage("payment", drafts, keys)

    async def _read_bank(self, drafts: Drafts, ids: Sequence[UUID]) -> None:
        for row in await self._databases.ask(BANK, "bank", ids):
            entry = BankEntry(row["kind"], row["key"], row["currency"], row["amount"], row["at"])
            drafts[str(row["order_id"])].bank.append(entry)

    async def _read_inventory(self, drafts: Drafts, ids: Sequence[UUID], keys: Sequence[str]) -> None:
        for row in await self._databases.ask("inventory", "reservations", ids):
            lines = tuple((line.sku, line.quantity) for line in self._lines.decode(row["lines"]))
            reservation = ReservationRow(row["status"], lines, row["created_at"])
            drafts[str(row["order_id"])].reservations.append(reservation)
        for row in await self._databases.ask("inventory", "movements", ids):
            drafts[str(row["order_id"])].movements.append((row["sku"], row["quantity"]))
        await self._read_passage("inventory", drafts, keys)

    async def _read_notification(self, drafts: Drafts, ids: Sequence[UUID], keys: Sequence[str]) -> None:
        for row in await self._databases.ask("notification", "notifications", ids):
            drafts[str(row["order_id"])].notifications.append(row["outcome"])
        await self._read_passage("notification", drafts, keys)

    async def _read_passage(self, service: str, drafts: Drafts, keys: Sequence[str]) -> None:
        """What came in, waits, is asked, and went out."""
        for row in await self._databases.ask(service, "inbox", keys):
            event_id, state = str(row["event_id"]), _state(row["state"])
            noted = InboxRow(service, row["consumer"], row["identity"], event_id, state, row["at"])
            drafts[row["key"]].inbox.append(noted)
        for row in await self._databases.ask(service, "parked", keys):
            parked = ParkedRow(
                service,
                row["consumer"],
                row["event_type"],
                _state(row["state"]),
                row["attempts"],
                row["identity"],
                row["parked_at"],
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
                row["topic"],
                header_text(headers, "ce_type").removeprefix("orderflow.").partition(".")[0],
                int(number) if number.isdecimal() else 0,
                str(row["event_id"]),
                row["is_sent"],
                row["created_at"],
            )
            drafts[row["key"]].outbox.append(sent)
        for row in await self._databases.ask(service, "streams", keys):
            drafts[row["key"]].emitted[service] = row["emitted"]


async def ledgers(databases: Databases) -> dict[str, UUID]:
    """For each service the first id of an order of which its outbox has kept everything; none where it is empty.

    Ids of orders begin with the time at which they were placed. What is purged is the oldest.
    """
    found: dict[str, UUID] = {}
    for service in SERVICES:
        for row in await databases.ask(service, "ledger"):
            kept = row["created_at"] + LEDGER_MARGIN
            ms = 0 if row["id"] == FIRST_ID else int(kept.timestamp() * 1000)
            found[service] = UUID(int=ms << 80)
    return found


def _state(number: int) -> str:
    return InboxState(number).name.lower()


def _answered(response: str) -> str:
    """The order that a stored answer is about; "" when it names none."""
    found = ANSWERED.search(response)
    return found[1] if found else ""
