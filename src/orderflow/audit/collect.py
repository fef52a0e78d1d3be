"""Reads the books out of the databases: chunk by chunk of orders, a handful of statements each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from uuid import UUID

import msgspec

from orderflow.audit.books import (
    BankEntry,
    OrderBooks,
    OrderRow,
    ParkedRow,
    PaymentRow,
    ReservationRow,
    Step,
    StockBooks,
)
from orderflow.audit.databases import BANK, SERVICES, Databases
from orderflow.audit.draft import OrderDraft
from orderflow.events.inventory import ReservedLine
from orderflow.events.order import Item
from orderflow.messaging.inbox import InboxState, Waits
from orderflow.order.rows import Obstacle
from orderflow.payment.model import BY_OPERATOR

CHUNK = 5_000
FIRST = UUID(int=0)
LAST = UUID(int=2**128 - 1)

Drafts = defaultdict[str, OrderDraft]


class Collector:
    """Everything that an audit looks at, from within `Databases.snapshots`."""

    def __init__(self, databases: Databases, chunk: int = CHUNK) -> None:
        self._databases = databases
        self._chunk = chunk
        self._items = msgspec.json.Decoder(tuple[Item, ...])
        self._lines = msgspec.json.Decoder(tuple[ReservedLine, ...])
        self._stuck = msgspec.json.Decoder(dict[str, Obstacle])

    async def orders(self) -> AsyncIterator[OrderBooks]:
        """Each order that any of the databases knows, by id."""
        after = FIRST
        while after != LAST:
            rows = await self._databases.ask("order", "next_orders", after, self._chunk)
            until: UUID = rows[0]["last"] if rows else LAST
            for order_id, draft in sorted((await self._read(after, until)).items()):
                yield draft.finish(order_id)
            after = until

    async def stock(self) -> list[StockBooks]:
        """Every SKU."""
        held = {row["sku"]: row["held"] for row in await self._databases.ask("inventory", "held")}
        rows = await self._databases.ask("inventory", "stock")
        known = [StockBooks(**{**row, "held": held.pop(row["sku"], 0)}) for row in rows]
        nowhere = {"on_hand": 0, "reserved": 0, "adjusted": 0, "moved": 0}
        return known + [StockBooks(sku=sku, held=quantity, **nowhere) for sku, quantity in held.items()]

    async def waiting(self) -> dict[str, int]:
        """Events that wait at any consumer, by how they wait, also those whose key is no order's id."""
        rows = [row for service in SERVICES for row in await self._databases.waiting(service)]
        return {str(each): sum(row[each] for row in rows) for each in Waits}

    async def _read(self, after: UUID, until: UUID) -> Drafts:
        drafts: Drafts = defaultdict(OrderDraft)
        await self._read_orders(drafts, after, until)
        await self._read_money(drafts, after, until)
        await self._read_inventory(drafts, after, until)
        for row in await self._databases.ask("notification", "notifications", after, until):
            drafts[str(row["order_id"])].notifications.append(row["outcome"])
        for service in SERVICES:
            await self._read_waiting(service, drafts, str(after), str(until))
        return drafts

    async def _read_orders(self, drafts: Drafts, after: UUID, until: UUID) -> None:
        for row in await self._databases.ask("order", "orders", after, until):
            drafts[str(row["order_id"])].order = OrderRow(
                status=row["status"],
                version=row["version"],
                event=row["event"],
                currency=row["currency"],
                total=row["total"],
                lines=tuple((item.sku, item.quantity) for item in self._items.decode(row["items"])),
                refund=row["refund"],
            )
        for row in await self._databases.ask("order", "flow", after, until):
            stuck = self._stuck.decode(row["stuck"])
            drafts[str(row["order_id"])].stuck = {consumer: each.state for consumer, each in stuck.items()}
        for row in await self._databases.ask("order", "history", after, until):
            step = Step(row["version"], row["from_status"], row["event"], row["to_status"])
            drafts[str(row["order_id"])].history.append(step)

    async def _read_money(self, drafts: Drafts, after: UUID, until: UUID) -> None:
        for row in await self._databases.ask("payment", "payments", after, until):
            drafts[str(row["order_id"])].payment = PaymentRow(
                status=row["status"],
                currency=row["currency"],
                amount=row["amount"],
                captured=row["captured"],
                refunded=row["refunded"],
                by_operator=BY_OPERATOR in (row["charge_reference"], row["reason"]),
                refund_by_operator=row["refund_reference"] == BY_OPERATOR,
            )
        for row in await self._databases.ask(BANK, "bank", after, until):
            entry = BankEntry(row["kind"], row["key"], row["currency"], row["amount"])
            drafts[str(row["order_id"])].bank.append(entry)

    async def _read_inventory(self, drafts: Drafts, after: UUID, until: UUID) -> None:
        for row in await self._databases.ask("inventory", "reservations", after, until):
            lines = tuple((line.sku, line.quantity) for line in self._lines.decode(row["lines"]))
            drafts[str(row["order_id"])].reservations.append(ReservationRow(row["status"], lines))
        for row in await self._databases.ask("inventory", "movements", after, until):
            drafts[str(row["order_id"])].movements.append((row["sku"], row["quantity"]))

    async def _read_waiting(self, service: str, drafts: Drafts, after: str, until: str) -> None:
        for row in await self._databases.ask(service, "parked", after, until):
            state = InboxState(row["state"]).name.lower()
            parked = ParkedRow(service, row["consumer"], row["event_type"], state, row["attempts"])
            drafts[row["key"]].parked.append(parked)
        for row in await self._databases.ask(service, "intents", after, until):
            drafts[row["message_key"]].intents.append(row["key"])
