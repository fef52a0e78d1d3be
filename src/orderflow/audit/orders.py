"""What the promises say of one order, as pure checks.

`at_rest` says that nothing is under way any more that could change the order; without it only what holds at every
moment is checked. An order that an operator has to act on (something of it was given up, or the bank refuses its
refund) is at rest by no fault of its own: it is held to what holds at every moment. Where an operator has said that
the customer has the money back, the bank's book need not have the refund; such orders are counted in the report.
How an order went through inboxes and outboxes is checked within one database each, so that it holds at every
moment; of a service outside of the saga, whose rows say nothing here, also that it has had what it reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from orderflow.audit.books import (
    BankEntry,
    InboxRow,
    Line,
    Listener,
    OrderBooks,
    OrderRow,
    OutboxRow,
    ParkedRow,
    Passage,
    PaymentRow,
)
from orderflow.audit.findings import Finding, Kind
from orderflow.core.dead_letters import FLOW_STATUS, SUFFIX
from orderflow.services.order.model import MACHINE

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


def check_passage(books: OrderBooks, passage: Passage, *, at_rest: bool) -> Iterator[Finding]:
    """Inbox against effects, what waits against the inbox, decisions against the outbox."""
    for service, effects in _effects(books).items():
        yield from _handled(books, passage, service, effects)
    for listener in passage.listeners:
        yield from _received(books, passage, listener, at_rest=at_rest)
    yield from _waiting(books, passage)
    said = _said(books, passage)
    for service in sorted(passage.ledgers):
        yield from _published(books, passage, service, said.get(service, ()))


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


def _received(books: OrderBooks, passage: Passage, listener: Listener, *, at_rest: bool) -> Iterator[Finding]:
    """Each event that it handles is in its inbox, whatever became of it there."""
    mine = [row for row in passage.inbox if (row.service, row.consumer) == (listener.service, listener.consumer)]
    # An edited event has another id than the one that was written.
    known = {row.event_id for row in mine} | {row.identity.removeprefix(PREFIX) for row in mine}
    types = {each.removeprefix(PREFIX) for each in listener.types}
    written = {row.event_id: row for row in passage.outbox if row.event in types and not row.topic.endswith(SUFFIX)}
    late = {name.removeprefix(PREFIX): since for name, since in listener.late}
    causes = {
        row.cause for row in passage.outbox if row.service == listener.service and not row.topic.endswith(SUFFIX)
    }
    for event_id, row in written.items():
        if not known.isdisjoint((event_id, row.event)):
            continue
        told = partial(Finding, subject=books.order_id, where=listener.service, since=row.since, event=row.event)
        if event_id in causes:
            yield told(Kind.EFFECT_WITHOUT_INBOX_ROW, expected=row.event, found="no row")
        elif at_rest and row.is_sent and not _is_before(row.since, late.get(row.event)):
            yield told(Kind.EVENT_NEVER_RECEIVED, expected=f"{row.event} at {listener.consumer}", found="no row")


def _is_before(moment: datetime | None, begin: datetime | None) -> bool:
    return moment is not None and begin is not None and moment < begin


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
    """Every decision has its event in the outbox, and the numbers of each source are 1, 2, 3, ..., each once."""
    rows = [row for row in passage.outbox if row.service == service and not row.topic.endswith(SUFFIX)]
    made = {row.event for row in rows if row.topic != FLOW_STATUS}
    unsaid = [event for event in said if event not in made]
    told = partial(Finding, subject=books.order_id, where=service, since=_since(books, service))
    for event in unsaid:
        yield told(Kind.EVENT_NEVER_SENT, expected=event, found="not in the outbox", event=event)
    counted = {source: count for (of, source), count in passage.emitted.items() if of == service}
    notices = {row.source for row in rows if row.topic == FLOW_STATUS}
    for source in sorted(counted.keys() | {row.source for row in rows}):
        of_source = [row for row in rows if row.source == source]
        missing = 0 if source in notices else len(unsaid)
        yield from _numbered(of_source, counted.get(source, 0), missing, told)


def _numbered(
    rows: Sequence[OutboxRow], emitted: int, missing: int, told: Callable[..., Finding]
) -> Iterator[Finding]:
    """The events of one source, of which `missing` are known not to be there."""
    numbers = sorted({(row.sequence, row.event_id) for row in rows})
    gaps = set(range(1, emitted + 1)) - {number for number, _ in numbers}
    if len(gaps) > missing:
        without = ", ".join(map(str, sorted(gaps)))
        yield told(Kind.SEQUENCE_GAP, expected=f"1 to {emitted}", found=f"without {without}")
    twice = sorted({a[0] for a, b in pairwise(numbers) if a[0] == b[0]})
    if twice:
        yield told(Kind.SEQUENCE_TWICE, expected="each number once", found=f"{', '.join(map(str, twice))} twice")
    beyond = _last(rows)
    if beyond > emitted:
        yield told(Kind.SEQUENCE_TWICE, expected=f"{beyond} counted", found=f"{emitted}: the next one has it again")


def _last(rows: Sequence[OutboxRow]) -> int:
    return max((row.sequence for row in rows), default=0)


def _since(books: OrderBooks, service: str) -> datetime | None:
    if service == "order":
        return books.order.since if books.order else None
    if service == "payment":
        return books.payment.since if books.payment else None
    return next((row.since for row in books.reservations), None)


FINAL = frozenset(MACHINE.final_states())
COMPLETED = "COMPLETED"
FAILED = "FAILED"
STOCK_REJECTED = "StockRejected"
OWED = ("due", "refused")
CAPTURED = ("CAPTURED", "REFUND_DUE", "REFUND_REFUSED", "REFUNDED")
ASKS: Mapping[str, tuple[str, ...]] = {"charge": ("CHARGING", "UNKNOWN"), "refund": ("REFUND_DUE",)}
TOLD_OF_REFUNDS: Mapping[str, set[str]] = {"done": {"refunded"}, "void": {"not_charged"}}
SILENT = "order.flow"
"""The reader of the notices of what is stuck. While it is stuck it reads none."""


def check_order(books: OrderBooks, *, at_rest: bool) -> Iterator[Finding]:
    """All five promises for one order."""
    quiet = at_rest and not books.is_halted
    yield from nothing_lost(books, quiet=quiet)
    yield from nothing_twice(books, quiet=quiet)
    yield from nothing_illegal(books)
    yield from nothing_blocked(books, at_rest=at_rest)
    yield from books_balance(books, quiet=quiet)
    if books.passage is not None:
        yield from check_passage(books, books.passage, at_rest=at_rest)


def nothing_lost(books: OrderBooks, *, quiet: bool) -> Iterator[Finding]:
    """Promise 1: the order is final, and nothing of it is open."""
    order, payment = books.order, books.payment
    if quiet and order is not None:
        told = partial(Finding, subject=books.order_id, since=order.since)
        if order.status not in FINAL:
            final = " or ".join(sorted(FINAL))
            yield told(Kind.ORDER_NOT_FINAL, expected=final, found=order.status, where="order")
        if order.refund == "due" and (payment is None or payment.status in ("REFUNDED", "DECLINED")):
            by_payment = "no payment" if payment is None else payment.status
            yield told(Kind.REFUND_OVERDUE, expected=by_payment, found="due", where="order, payment")
    yield from _asked(books, quiet=quiet)


def nothing_twice(books: OrderBooks, *, quiet: bool) -> Iterator[Finding]:
    """Promise 2: one charge, at most one refund, one reservation, one notification an outcome."""
    told = partial(Finding, subject=books.order_id)
    for side, kind in (("charge", Kind.DOUBLE_CHARGE), ("refund", Kind.DOUBLE_REFUND)):
        entries = _entries(books, side)
        if len(entries) > 1:
            keys = ", ".join(entry.key for entry in entries)
            yield told(kind, expected="one", found=keys, where="bank", since=entries[-1].since)
    if len(books.reservations) > 1:
        found, since = str(len(books.reservations)), books.reservations[-1].since
        yield told(Kind.RESERVATION_TWICE, expected="one", found=found, where="inventory", since=since)
    for outcome, count in Counter(books.notifications).items():
        if count > 1:
            found = f"{count} of {outcome}"
            yield told(Kind.NOTIFICATION_TWICE, expected="one", found=found, where="notification")
    yield from _bank_agrees(books, quiet=quiet)
    yield from _keys_are_right(books)
    moved, reserved = _summed(books.movements), _reserved(books)
    if moved != reserved:
        since = next((row.since for row in books.reservations), None)
        wanted, found = _lines(reserved), _lines(moved)
        yield told(Kind.RESERVATION_NOT_MOVED, expected=wanted, found=found, where="inventory", since=since)


def nothing_illegal(books: OrderBooks) -> Iterator[Finding]:
    """Promise 3: legal transitions only, densely numbered; the status is the last one; nothing negative."""
    order, payment = books.order, books.payment
    if order is not None:
        yield from _history_is_legal(books, order)
        told = partial(Finding, subject=books.order_id, where="order", since=order.since)
        if order.status == COMPLETED and order.refund != "none":
            yield told(Kind.COMPLETED_WITH_REFUND, expected="none", found=order.refund)
        if order.items_total is not None and order.items_total != order.total:
            yield told(Kind.ORDER_TOTAL_WRONG, expected=str(order.items_total), found=str(order.total))
        if order.refund_steps is not None:
            last = order.refund_steps[-1].refund if order.refund_steps else "none"
            if last != order.refund:
                yield told(Kind.REFUND_STEPS_DIFFER, expected=last, found=order.refund)
    if payment is not None:
        captured = payment.amount if payment.status in CAPTURED else 0
        refunded = captured if payment.status == "REFUNDED" else 0
        if (payment.captured, payment.refunded) != (captured, refunded):
            wanted = f"captured {captured}, refunded {refunded} when {payment.status}"
            found = f"captured {payment.captured}, refunded {payment.refunded}"
            told = partial(Finding, subject=books.order_id, where="payment", since=payment.since)
            yield told(Kind.PAYMENT_ILLEGAL, expected=wanted, found=found)


def nothing_blocked(books: OrderBooks, *, at_rest: bool) -> Iterator[Finding]:
    """Promise 4: what waits, waits behind a failed head of its own; what is stuck is said on the order."""
    told = partial(Finding, subject=books.order_id)
    order, heads = books.order, dict[str, str]()
    deaf = any(row.consumer == SILENT for row in books.parked)
    for consumer, rows in _by_consumer(books.parked).items():
        failed = [row for row in rows if row.attempts > 0]
        at, since = partial(told, where=rows[0].service, event=rows[0].event_type), rows[0].since
        if not failed and at_rest:
            # While events flow, the retrier may just have handled the head, and be about to go on with these.
            wanted, found = f"a failed head at {consumer}", f"{len(rows)} held"
            yield at(Kind.HELD_BEHIND_NOTHING, expected=wanted, found=found, since=since)
        elif len(failed) > 1:
            yield at(Kind.SEVERAL_HEADS, expected=f"one at {consumer}", found=str(len(failed)), since=since)
        # Who fails over such a notice gives none of itself: it would be its own reader.
        if not failed or failed[0].topic != FLOW_STATUS:
            heads[consumer] = failed[0].state if failed else "held"
    if not at_rest or order is None:
        return
    if not deaf and dict(order.stuck) != heads:
        wanted, found = _stuck(heads), _stuck(order.stuck)
        yield told(Kind.STUCK_NOT_SHOWN, expected=wanted, found=found, where="order", since=order.since)
    if not books.parked and (order.refund == "refused") != books.is_refund_refused:
        wanted = "refused" if books.is_refund_refused else "not refused"
        yield told(Kind.REFUND_NOT_SHOWN, expected=wanted, found=order.refund, where="order", since=order.since)


def books_balance(books: OrderBooks, *, quiet: bool) -> Iterator[Finding]:
    """Promise 5: the money is where the outcome says, and the databases agree on the order."""
    order, payment = books.order, books.payment
    if order is None:
        if quiet:
            yield from _nobodys(books)
        return
    if payment is None:
        if quiet or order.status != MACHINE.initial:
            told = partial(Finding, subject=books.order_id, where="payment", since=order.since)
            yield told(Kind.PAYMENT_MISSING, expected="a payment", found="none")
    else:
        yield from _payment_is_of(books, order, payment)
        yield from _outcome_is_paid_for(books, order, payment)
        yield from _outcomes_agree(books, order, payment, quiet=quiet)
    yield from _stock_follows(books, order)
    if quiet:
        yield from _notified(books, order)


def _asked(books: OrderBooks, *, quiet: bool) -> Iterator[Finding]:
    """The bank is asked for what the payment waits for, for nothing else, and answers."""
    payment = books.payment
    told = partial(Finding, subject=books.order_id, where="payment", since=payment.since if payment else None)
    status = payment.status if payment else "no payment"
    open_kinds = {key.partition(":")[0]: key for key in books.intents}
    for kind, key in open_kinds.items():
        if status not in ASKS.get(kind, ()):
            yield told(Kind.INTENT_UNCALLED_FOR, expected=f"no {kind} when {status}", found=key)
    if books.intents and (quiet or books.intents_overdue):
        yield told(Kind.INTENT_OPEN, expected="an answer", found=", ".join(books.intents))
    for kind, statuses in ASKS.items():
        if quiet and status in statuses and kind not in open_kinds:
            yield told(Kind.INTENT_MISSING, expected=f"an open {kind} when {status}", found="none")


def _keys_are_right(books: OrderBooks) -> Iterator[Finding]:
    told = partial(Finding, subject=books.order_id, where="order")
    for _, answered in books.keys:
        if books.order is None or answered != books.order_id:
            found = answered if books.order else "no such order"
            yield told(Kind.IDEMPOTENCY_KEY_WRONG, expected=books.order_id, found=found)
    if len(books.keys) > 1:
        yield told(Kind.IDEMPOTENCY_KEY_TWICE, expected="one", found=str(len(books.keys)))


def _history_is_legal(books: OrderBooks, order: OrderRow) -> Iterator[Finding]:
    told = partial(Finding, subject=books.order_id, where="order")
    status, version = str(MACHINE.initial), 1
    for step in books.history:
        version += 1
        if step.version != version:
            yield told(Kind.HISTORY_GAP, expected=str(version), found=str(step.version), since=step.since)
            version = step.version
        after = MACHINE.transitions.get((step.before, step.event))
        if step.before != status or after != step.after:
            legal = f"{status} --{step.event}--> {MACHINE.transitions.get((status, step.event))}"
            found = f"{step.before} --{step.event}--> {step.after}"
            yield told(Kind.HISTORY_ILLEGAL_STEP, expected=legal, found=found, since=step.since)
        status = step.after
    if (order.status, order.version) != (status, version):
        last, row = f"{status} version {version}", f"{order.status} version {order.version}"
        yield told(Kind.HISTORY_END_DIFFERS, expected=last, found=row, since=order.since)


def _bank_agrees(books: OrderBooks, *, quiet: bool) -> Iterator[Finding]:
    """The bank may be ahead of our book, never behind it; at rest they agree, and where an operator has settled."""
    payment = books.payment
    charges = _entries(books, "charge")
    told = partial(Finding, subject=books.order_id, where="payment, bank", since=payment.since if payment else None)
    ours, at_bank = payment.captured if payment else 0, sum(entry.amount for entry in charges)
    by_operator = payment is not None and payment.by_operator
    if by_operator and bool(ours) != bool(at_bank):
        yield told(Kind.CHARGE_SETTLED_WRONG, expected=str(ours), found=str(at_bank))
    elif ours and not charges:
        yield told(Kind.CHARGE_NOT_AT_BANK, expected=str(ours), found="no charge")
    elif quiet and charges and not ours and (books.order or payment):
        yield told(Kind.CHARGE_NOT_BOOKED, expected=str(at_bank), found="nothing captured")
    yield from _refunds_agree(books, told, quiet=quiet)
    for side, kind in (("charge", Kind.CHARGE_DIFFERS), ("refund", Kind.REFUND_DIFFERS)):
        yield from _wrong_entries(books, side, kind)


def _refunds_agree(books: OrderBooks, told: partial[Finding], *, quiet: bool) -> Iterator[Finding]:
    charges, refunds = _entries(books, "charge"), _entries(books, "refund")
    ours = books.payment.refunded if books.payment else 0
    if ours and not refunds and not books.is_refunded_by_word:
        yield told(Kind.REFUND_NOT_AT_BANK, expected=str(ours), found="no refund")
    elif quiet and refunds and not ours and (books.order or books.payment):
        yield told(Kind.REFUND_NOT_BOOKED, expected=str(_total(refunds)), found="nothing refunded")
    if len(refunds) == 1 and _total(refunds) > _total(charges):
        found = f"{_total(refunds)} of {_total(charges)}"
        yield told(Kind.REFUND_EXCEEDS_CHARGE, expected="no more than was charged", found=found, where="bank")


def _wrong_entries(books: OrderBooks, side: str, kind: Kind) -> Iterator[Finding]:
    order = books.order
    for entry in _entries(books, side):
        if order is not None and (entry.currency, entry.amount) != (order.currency, order.total):
            wanted, found = f"{order.total} {order.currency}", f"{entry.amount} {entry.currency}"
            yield Finding(kind, books.order_id, wanted, found, "bank", entry.since)


def _nobodys(books: OrderBooks) -> Iterator[Finding]:
    """Of an order that the order service does not have."""
    known = {
        "payment": books.payment,
        "bank": books.bank,
        "inventory": books.reservations,
        "notification": books.notifications,
    }
    where = [name for name, rows in known.items() if rows]
    if where == ["bank"]:
        found = ", ".join(f"{entry.kind} of {entry.amount} {entry.currency}" for entry in books.bank)
        since = books.bank[0].since
        yield Finding(Kind.CHARGE_OF_NO_ORDER, books.order_id, "an order", found, "bank", since)
    elif where:
        since = books.payment.since if books.payment else None
        yield Finding(Kind.ORDER_UNKNOWN, books.order_id, "an order", "none", ", ".join(where), since)


def _payment_is_of(books: OrderBooks, order: OrderRow, payment: PaymentRow) -> Iterator[Finding]:
    wanted, found = f"{order.total} {order.currency}", f"{payment.amount} {payment.currency}"
    if order.customer and payment.customer:
        wanted, found = f"{wanted} of {order.customer}", f"{found} of {payment.customer}"
    if wanted != found:
        told = partial(Finding, subject=books.order_id, where="order, payment", since=payment.since)
        yield told(Kind.PAYMENT_DIFFERS, expected=wanted, found=found)


def _outcome_is_paid_for(books: OrderBooks, order: OrderRow, payment: PaymentRow) -> Iterator[Finding]:
    kept = payment.captured - payment.refunded
    at_bank = 0 if books.is_refunded_by_word else sum(_signed(entry) for entry in books.bank)
    told = partial(Finding, subject=books.order_id, where="order, payment, bank", since=order.since)
    if order.status == COMPLETED and (kept != order.total or at_bank < order.total):
        found = f"{kept}, at the bank {at_bank}"
        yield told(Kind.COMPLETED_UNPAID, expected=str(order.total), found=found)
    if order.status == FAILED and order.refund not in OWED and (kept > 0 or at_bank > 0):
        yield told(Kind.FAILED_KEEPS_MONEY, expected="0", found=f"{kept}, at the bank {at_bank}")


def _outcomes_agree(books: OrderBooks, order: OrderRow, payment: PaymentRow, *, quiet: bool) -> Iterator[Finding]:
    """What holds at every moment: the order service is told last, so the others are where they were or further on."""
    said, event = f"{order.status} after {order.event}", order.event
    answers = {row.status for row in books.reservations}
    for_stock = order.status == FAILED and event == STOCK_REJECTED
    disagrees = (
        (order.status == "PENDING" and quiet and payment.status not in ("CHARGING", "UNKNOWN"))
        or (order.status in ("PAID", COMPLETED) and payment.status not in CAPTURED and not payment.is_void)
        or (order.status == "PAID" and quiet and bool(answers))
        or (order.status == COMPLETED and (payment.status != "CAPTURED" or "REJECTED" in answers))
        or (order.status == FAILED and event == "PaymentFailed" and payment.status != "DECLINED")
        or (for_stock and payment.status not in CAPTURED and not payment.is_void)
    )
    told = partial(Finding, subject=books.order_id, since=order.since)
    if disagrees:
        found = ", ".join([payment.status, *sorted(answers)])
        yield told(Kind.SERVICES_DISAGREE, expected=said, found=found, where="order, payment, inventory")
    if for_stock and quiet and payment.status == "CAPTURED" and order.refund in ("due", "none"):
        found = "captured, and no refund begun"
        yield told(Kind.REFUND_MISSING, expected="refunded", found=found, where="order, payment, bank")


def _stock_follows(books: OrderBooks, order: OrderRow) -> Iterator[Finding]:
    """Stock is held exactly for completed orders; on the way there it may be held already."""
    reserved, wanted = _reserved(books), _summed(order.lines)
    told = partial(Finding, subject=books.order_id, where="order, inventory", since=order.since)
    if order.status == COMPLETED and reserved != wanted and len(books.reservations) <= 1:
        yield told(Kind.COMPLETED_WITHOUT_STOCK, expected=_lines(wanted), found=_lines(reserved))
    if order.status == FAILED and reserved:
        yield told(Kind.RESERVATION_TO_RELEASE, expected="nothing", found=_lines(reserved))


def _notified(books: OrderBooks, order: OrderRow) -> Iterator[Finding]:
    wanted = {order.status.lower()} | TOLD_OF_REFUNDS.get(order.refund, set())
    told = set(books.notifications)
    at = partial(Finding, subject=books.order_id, where="order, notification", since=order.since)
    if order.status in FINAL and wanted - told:
        yield at(Kind.NOTIFICATION_MISSING, expected=_names(wanted), found=_names(told))
    if order.status in FINAL and told - wanted:
        yield at(Kind.NOTIFICATION_WRONG, expected=_names(wanted), found=_names(told))


def _entries(books: OrderBooks, kind: str) -> list[BankEntry]:
    return [entry for entry in books.bank if entry.kind == kind]


def _total(entries: Iterable[BankEntry]) -> int:
    return sum(entry.amount for entry in entries)


def _reserved(books: OrderBooks) -> dict[str, int]:
    return _summed(line for row in books.reservations if row.status == "RESERVED" for line in row.lines)


def _summed(lines: Iterable[Line]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for sku, quantity in lines:
        total[sku] += quantity
    return {sku: quantity for sku, quantity in sorted(total.items()) if quantity}


def _by_consumer(parked: Iterable[ParkedRow]) -> dict[str, list[ParkedRow]]:
    found: dict[str, list[ParkedRow]] = {}
    for row in parked:
        found.setdefault(row.consumer, []).append(row)
    return found


def _signed(entry: BankEntry) -> int:
    return entry.amount if entry.kind == "charge" else -entry.amount


def _lines(lines: dict[str, int]) -> str:
    return ", ".join(f"{quantity} {sku}" for sku, quantity in lines.items()) or "nothing"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _stuck(stuck: Mapping[str, str]) -> str:
    return ", ".join(f"{state} at {consumer}" for consumer, state in sorted(stuck.items())) or "nowhere"
