"""How an order went through inboxes and outboxes: an effect has its row, a row its effect, a decision its event.

Each check stays within one database, so that it holds at every moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from orderflow.audit.books import InboxRow, OrderBooks, OutboxRow, Passage
from orderflow.audit.findings import Finding, Kind
from orderflow.messaging.flow import FLOW_STATUS

PREFIX = "orderflow."
OPERATOR = "settled_by_operator"
BEGUN_REFUND = ("REFUND_DUE", "REFUND_REFUSED", "REFUNDED")
PAYMENT_SAYS: Mapping[str, tuple[str, ...]] = {
    "CAPTURED": ("PaymentSucceeded",),
    "DECLINED": ("PaymentFailed",),
    "REFUND_DUE": ("PaymentSucceeded",),
    "REFUND_REFUSED": ("PaymentSucceeded", "RefundFailed"),
    "REFUNDED": ("PaymentSucceeded", "PaymentRefunded"),
}
ORDER_SAYS: Mapping[str, tuple[str, ...]] = {
    "COMPLETED": ("OrderPlaced", "OrderCompleted"),
    "FAILED": ("OrderPlaced", "OrderFailed"),
}
INVENTORY_SAYS: Mapping[str, tuple[str, ...]] = {"RESERVED": ("StockReserved",), "REJECTED": ("StockRejected",)}
TOLD_BY: Mapping[str, tuple[str, ...]] = {
    "completed": ("StockReserved",),
    "failed": ("StockRejected", "PaymentFailed"),
    "refunded": ("PaymentRefunded",),
    "not_charged": ("PaymentVoided",),
}


class Effect(NamedTuple):
    """What has to have come in: an event of one of these types, or the one with the id `cause`."""

    events: tuple[str, ...]
    cause: str = ""
    since: datetime | None = None

    def is_by(self, row: InboxRow) -> bool:
        return row.identity.removeprefix(PREFIX) in self.events or (bool(self.cause) and row.event_id == self.cause)


def check_passage(books: OrderBooks, passage: Passage) -> Iterator[Finding]:
    """Inbox against effects, what waits against the inbox, decisions against the outbox."""
    for service, effects in _effects(books).items():
        yield from _handled(books, passage, service, effects)
    yield from _waiting(books, passage)
    for service, said in _said(books, passage).items():
        if service in passage.ledgers:
            yield from _published(books, passage, service, said)


def _effects(books: OrderBooks) -> dict[str, list[Effect]]:
    """By consumer; what each has done of the order, and through which event."""
    order, payment = books.order, books.payment
    steps = [Effect((step.event,), step.cause, step.since) for step in books.history]
    if order is not None:
        steps += [Effect((step.event,), step.cause) for step in order.refund_steps or ()]
        steps += [Effect((order.early,))] if order.early else []
    paid = []
    if payment is not None:
        paid.append(Effect(("OrderPlaced",), since=payment.since))
        if payment.status in BEGUN_REFUND:
            paid.append(Effect(("StockRejected",), since=payment.since))
    reserved = [Effect(("PaymentSucceeded",), since=row.since) for row in books.reservations]
    told = [Effect(TOLD_BY.get(outcome, ())) for outcome in books.notifications]
    return {"order": steps, "payment": paid, "inventory": reserved, "notification": told}


def _handled(books: OrderBooks, passage: Passage, consumer: str, effects: list[Effect]) -> Iterator[Finding]:
    rows = [row for row in passage.inbox if row.consumer == consumer and row.state == "done"]
    told = partial(Finding, subject=books.order_id, where=consumer)
    for effect in effects:
        if not any(effect.is_by(row) for row in rows):
            wanted, event = " or ".join(effect.events), effect.events[0] if effect.events else ""
            yield told(
                Kind.EFFECT_WITHOUT_INBOX_ROW, expected=wanted, found="no row", since=effect.since, event=event
            )
    voided = consumer == "payment" and books.payment is not None and books.payment.by_operator
    for row in rows:
        event = row.identity.removeprefix(PREFIX)
        if event == row.identity or any(effect.is_by(row) for effect in effects) or voided:
            continue
        yield told(
            Kind.INBOX_ROW_WITHOUT_EFFECT,
            expected=f"what {event} does",
            found="nothing",
            since=row.since,
            event=event,
        )


def _waiting(books: OrderBooks, passage: Passage) -> Iterator[Finding]:
    told = partial(Finding, subject=books.order_id)
    noted = {(row.service, row.consumer, row.identity): row.state for row in passage.inbox}
    waiting = {(row.service, row.consumer, row.identity): row for row in books.parked}
    for name, row in waiting.items():
        if noted.get(name) != row.state:
            found = noted.get(name, "no row")
            at = partial(told, where=row.service, since=row.since, event=row.event_type)
            yield at(Kind.PARKED_WITHOUT_INBOX_ROW, expected=f"{row.state} at {row.consumer}", found=found)
    for entry in passage.inbox:
        name = (entry.service, entry.consumer, entry.identity)
        if entry.state in ("parked", "dead") and name not in waiting:
            at = partial(told, where=entry.service, since=entry.since, event=entry.identity.removeprefix(PREFIX))
            yield at(Kind.PARKED_EVENT_MISSING, expected=f"{entry.state} at {entry.consumer}", found="nothing waits")


def _said(books: OrderBooks, passage: Passage) -> dict[str, tuple[str, ...]]:
    """By service: the events that its rows say it has made."""
    said: dict[str, tuple[str, ...]] = {}
    if books.order is not None:
        said["order"] = ORDER_SAYS.get(books.order.status, ("OrderPlaced",))
    if books.payment is not None:
        events = PAYMENT_SAYS.get(books.payment.status, ())
        made = {row.event for row in passage.outbox if row.service == "payment"}
        # A charge that an operator has taken back was said to be made before.
        voided = books.payment.by_operator and "PaymentVoided" in made
        said["payment"] = ("PaymentSucceeded", "PaymentVoided") if voided else events
    said["inventory"] = tuple(event for row in books.reservations[:1] for event in INVENTORY_SAYS.get(row.status, ()))
    return said


def _published(books: OrderBooks, passage: Passage, service: str, said: tuple[str, ...]) -> Iterator[Finding]:
    """Every decision has its event in the outbox, and the numbers are 1, 2, 3, ..., each once."""
    rows = [row for row in passage.outbox if row.service == service and not row.topic.endswith(".DLT")]
    made = {row.event for row in rows if row.topic != FLOW_STATUS}
    unsaid = [event for event in said if event not in made]
    told = partial(Finding, subject=books.order_id, where=service, since=_since(books, service))
    for event in unsaid:
        yield told(Kind.EVENT_NEVER_SENT, expected=event, found="not in the outbox", event=event)
    numbers = sorted({(row.sequence, row.event_id) for row in rows})
    emitted = passage.emitted.get(service, 0)
    gaps = set(range(1, emitted + 1)) - {number for number, _ in numbers}
    if len(gaps) > len(unsaid):
        missing = ", ".join(map(str, sorted(gaps)))
        yield told(Kind.SEQUENCE_GAP, expected=f"1 to {emitted}", found=f"without {missing}")
    twice = sorted({a[0] for a, b in pairwise(numbers) if a[0] == b[0]})
    if twice:
        yield told(Kind.SEQUENCE_TWICE, expected="each number once", found=f"{', '.join(map(str, twice))} twice")
    beyond = _last(rows)
    if beyond > emitted:
        yield told(Kind.SEQUENCE_TWICE, expected=f"{beyond} counted", found=f"{emitted}: the next one has it again")


def _last(rows: list[OutboxRow]) -> int:
    return max((row.sequence for row in rows), default=0)


def _since(books: OrderBooks, service: str) -> datetime | None:
    if service == "order":
        return books.order.since if books.order else None
    if service == "payment":
        return books.payment.since if books.payment else None
    return next((row.since for row in books.reservations), None)
