"""What the promises say of one order, as pure checks.

`at_rest` says that nothing is under way any more; without it only what holds at every moment is checked. An
order that an operator has to act on (something of it was given up, or the bank refuses its refund) is at rest by no
fault of its own: it is held to what holds at every moment. Where an operator has said that the customer has the money
back, the bank's book need not have the refund; such orders are counted in the report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from orderflow.audit.books import BankEntry, Line, OrderBooks, OrderRow, ParkedRow, PaymentRow
from orderflow.audit.findings import Finding, Promise
from orderflow.order.model import MACHINE

FINAL = frozenset(MACHINE.final_states())
COMPLETED = "COMPLETED"
FAILED = "FAILED"
OWED = ("due", "refused")
TOLD_OF_REFUNDS: Mapping[str, set[str]] = {"done": {"refunded"}, "void": {"not_charged"}}
SILENT = "order.flow"
"""The reader of the notices of what is stuck. It gives none of itself, and while it is stuck it reads none."""


def check_order(books: OrderBooks, *, at_rest: bool) -> Iterator[Finding]:
    """All five promises for one order."""
    settled = at_rest and not books.is_stuck
    yield from nothing_lost(books, settled=settled)
    yield from nothing_twice(books, settled=settled)
    yield from nothing_illegal(books)
    yield from nothing_blocked(books, at_rest=at_rest)
    yield from books_balance(books, settled=settled)


def nothing_lost(books: OrderBooks, *, settled: bool) -> Iterator[Finding]:
    """Promise 1: the order is final, and nothing of it is open."""
    if not settled or books.order is None:
        return
    order = books.order
    if order.status not in FINAL:
        yield _lost(books, "the order has not reached its end", " or ".join(sorted(FINAL)), order.status)
    if order.refund == "due":
        yield _lost(books, "the refund is still due", "done", order.refund)
    if books.intents:
        yield _lost(books, "the bank has not been heard of", "no open intent", ", ".join(books.intents))


def nothing_twice(books: OrderBooks, *, settled: bool) -> Iterator[Finding]:
    """Promise 2: one charge, at most one refund, one reservation, one notification an outcome."""
    for kind in ("charge", "refund"):
        entries = [entry for entry in books.bank if entry.kind == kind]
        if len(entries) > 1:
            keys = ", ".join(entry.key for entry in entries)
            yield _twice(books, f"the bank has more than one {kind}", f"one {kind}", keys)
    if len(books.reservations) > 1:
        yield _twice(books, "more than one reservation", "one", str(len(books.reservations)))
    for outcome, count in Counter(books.notifications).items():
        if count > 1:
            yield _twice(books, f"more than one notification of {outcome}", "one", str(count))
    yield from _bank_agrees(books, settled=settled)
    moved, reserved = _summed(books.movements), _reserved(books)
    if moved != reserved:
        yield _twice(books, "stock was not moved as reserved", _lines(reserved), _lines(moved))


def nothing_illegal(books: OrderBooks) -> Iterator[Finding]:
    """Promise 3: legal transitions only, densely numbered; the status is the last one; nothing negative."""
    order = books.order
    if order is None:
        return
    status, version = str(MACHINE.initial), 1
    for step in books.history:
        version += 1
        if step.version != version:
            yield _illegal(books, "the history is not densely numbered", str(version), str(step.version))
            version = step.version
        after = MACHINE.transitions.get((step.before, step.event))
        if step.before != status or after != step.after:
            legal = f"{status} --{step.event}--> {MACHINE.transitions.get((status, step.event))}"
            found = f"{step.before} --{step.event}--> {step.after}"
            yield _illegal(books, "a step of the history is no transition", legal, found)
        status = step.after
    if (order.status, order.version) != (status, version):
        last, row = f"{status} version {version}", f"{order.status} version {order.version}"
        yield _illegal(books, "the order is not as its history ends", last, row)
    if order.status == COMPLETED and order.refund != "none":
        yield _illegal(books, "a completed order has a refund", "none", order.refund)
    payment = books.payment
    if payment is not None and not 0 <= payment.refunded <= payment.captured <= payment.amount:
        limits = f"0 <= refunded <= captured <= {payment.amount}"
        yield _illegal(books, "money out of bounds", limits, f"{payment.refunded}, {payment.captured}")


def nothing_blocked(books: OrderBooks, *, at_rest: bool) -> Iterator[Finding]:
    """Promise 4: what waits, waits behind a failed head of its own; what is stuck is said on the order."""
    heads: dict[str, str] = {}
    deaf = any(row.consumer == SILENT for row in books.parked)
    for consumer, rows in _by_consumer(books.parked).items():
        failed = [row for row in rows if row.attempts > 0]
        if not failed:
            yield _blocked(books, f"events are held at {consumer} behind nothing", "a failed head", "none")
        elif len(failed) > 1:
            yield _blocked(books, f"several heads at {consumer}", "one", str(len(failed)))
        heads[consumer] = failed[0].state if failed else "held"
    if at_rest and not deaf and books.order is not None and dict(books.order.stuck) != heads:
        said, is_so = _stuck(books.order.stuck), _stuck(heads)
        yield _blocked(books, "the order does not say where it is stuck", is_so, said)
    is_refused = books.payment is not None and books.payment.is_refused
    if at_rest and not books.parked and books.order is not None and (books.order.refund == "refused") != is_refused:
        is_so = "refused" if is_refused else "not refused"
        yield _blocked(books, "the order does not say how its refund stands", is_so, books.order.refund)


def books_balance(books: OrderBooks, *, settled: bool) -> Iterator[Finding]:
    """Promise 5: the money is where the outcome says, and the databases agree on the order."""
    order, payment = books.order, books.payment
    if order is None:
        if settled and (payment or books.bank or books.reservations or books.notifications):
            yield _unbalanced(books, "an order that the order service does not have", "an order", "none")
        return
    if payment is None:
        if settled or order.status != MACHINE.initial:
            yield _unbalanced(books, "an order without a payment", "a payment", "none")
        return
    if (payment.currency, payment.amount) != (order.currency, order.total):
        wanted, found = f"{order.total} {order.currency}", f"{payment.amount} {payment.currency}"
        yield _unbalanced(books, "the payment is about another amount", wanted, found)
    yield from _outcome_is_paid_for(books, order, payment)
    yield from _stock_follows(books, order)
    if settled:
        yield from _notified(books, order)


def _bank_agrees(books: OrderBooks, *, settled: bool) -> Iterator[Finding]:
    """The bank may be ahead of our book, never behind it; at rest they agree, and where an operator has settled."""
    payment = books.payment
    for kind in ("charge", "refund"):
        at_bank = sum(entry.amount for entry in books.bank if entry.kind == kind)
        ours = 0 if payment is None else payment.captured if kind == "charge" else payment.refunded
        by_operator = kind == "charge" and payment is not None and payment.by_operator
        if kind == "refund" and books.is_refunded_by_word:
            continue
        if ours > at_bank or ((settled or by_operator) and ours != at_bank):
            what = f"our book and the bank's differ on the {kind}"
            if by_operator:
                what = "an operator settled the charge otherwise than the bank has it"
            yield _twice(books, what, str(ours), str(at_bank))
        yield from _wrong_entries(books, kind)


def _wrong_entries(books: OrderBooks, kind: str) -> Iterator[Finding]:
    order = books.order
    for entry in books.bank:
        if order is None or entry.kind != kind or (entry.currency, entry.amount) == (order.currency, order.total):
            continue
        wanted = f"{order.total} {order.currency}"
        yield _twice(books, f"a {kind} of another amount", wanted, f"{entry.amount} {entry.currency}")


def _outcome_is_paid_for(books: OrderBooks, order: OrderRow, payment: PaymentRow) -> Iterator[Finding]:
    kept = payment.captured - payment.refunded
    at_bank = 0 if books.is_refunded_by_word else sum(_signed(entry) for entry in books.bank)
    if order.status == COMPLETED and (kept, at_bank) != (order.total, order.total):
        yield _unbalanced(books, "a completed order is not paid", str(order.total), f"{kept}, at the bank {at_bank}")
    if order.status == FAILED and order.refund not in OWED and (kept, at_bank) != (0, 0):
        yield _unbalanced(books, "a failed order keeps money", "0", f"{kept}, at the bank {at_bank}")
    if order.status == "PAID" and payment.captured != order.total and not payment.is_void:
        yield _unbalanced(books, "a paid order is not captured", str(order.total), str(payment.captured))


def _stock_follows(books: OrderBooks, order: OrderRow) -> Iterator[Finding]:
    """Stock is held exactly for completed orders; on the way there it may be held already."""
    reserved, wanted = _reserved(books), _summed(order.lines)
    if order.status == COMPLETED and reserved != wanted:
        yield _unbalanced(books, "a completed order has not its stock", _lines(wanted), _lines(reserved))
    if order.status == FAILED and reserved:
        yield _unbalanced(books, "a failed order holds stock", "nothing", _lines(reserved))


def _notified(books: OrderBooks, order: OrderRow) -> Iterator[Finding]:
    wanted = {order.status.lower()} | TOLD_OF_REFUNDS.get(order.refund, set())
    told = set(books.notifications)
    if order.status in FINAL and told != wanted:
        yield _unbalanced(books, "the notifications are not the outcome", _names(wanted), _names(told))


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


def _lost(books: OrderBooks, what: str, expected: str, found: str) -> Finding:
    return Finding(Promise.NOTHING_LOST, books.order_id, what, expected, found)


def _twice(books: OrderBooks, what: str, expected: str, found: str) -> Finding:
    return Finding(Promise.NOTHING_TWICE, books.order_id, what, expected, found)


def _illegal(books: OrderBooks, what: str, expected: str, found: str) -> Finding:
    return Finding(Promise.NOTHING_ILLEGAL, books.order_id, what, expected, found)


def _blocked(books: OrderBooks, what: str, expected: str, found: str) -> Finding:
    return Finding(Promise.NOTHING_BLOCKED, books.order_id, what, expected, found)


def _unbalanced(books: OrderBooks, what: str, expected: str, found: str) -> Finding:
    return Finding(Promise.BOOKS_BALANCE, books.order_id, what, expected, found)
