"""What must hold, said a second time: of each step of a service, and of each state of them all.

It shares no code with the services: rows, facts and events are looked at by the names of tables, columns and JSON.
The audit, which users run, judges every state as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from orderflow.audit.findings import Finding
from orderflow.audit.promises import check
from orderflow.bank import BankRefund, Charge, MemoryBook
from orderflow.core.envelopes import header_text
from orderflow.core.inbox import InboxState
from orderflow.core.service import Fact, Row
from orderflow.core.store import OutboxRecord
from orderflow.core.testing.state import KeptEvent, MemoryTables, StoredIntent
from orderflow.simulation.books import books_of
from orderflow.simulation.exhaustive.setting import Booked, Setting, Shopping
from orderflow.simulation.exhaustive.stored import MadeToFailError, Stored, Taken
from orderflow.simulation.model import ORDER_STEPS, PAYMENT_STEPS, REFUND_STEPS, SAID, ExpectedOrder

BY_WORD = "settled_by_operator"
STEPS_BY_WORD: Mapping[str, Sequence[str]] = MappingProxyType(
    {"REFUND_DUE": ("DECLINED",), "REFUND_REFUSED": ("DECLINED",)}
)
VOIDS = MappingProxyType({"none": ("void",), "due": ("void",), "refused": ("void",)})
WORDS = MappingProxyType(
    {
        "CHARGING": ("charged", "not-charged"),
        "UNKNOWN": ("charged", "not-charged"),
        "REFUND_DUE": ("refunded", "not-charged"),
        "REFUND_REFUSED": ("refunded", "ask-again", "not-charged"),
    }
)
"""What an operator's word can change at all."""

OF_A_MISTAKE = (
    "our book and the bank's differ on the charge",
    "an operator settled the charge, and the bank's book says otherwise",
    "a completed order was not paid",
    "a failed order keeps money",
)
"""What an audit has to find where an operator was wrong."""

REFUND_OF = MappingProxyType({"REFUNDED": "done", "REFUND_REFUSED": "refused", "DECLINED": "void"})
"""How the order shows its refund, by the payment's state."""

TOLD_OF = MappingProxyType({"done": ("refunded",), "void": ("not_charged",)})
FLOW_STATUS = "flow-status"
DIGITS = MappingProxyType({"JPY": 0, "KWD": 3})


class Tables:
    """What a service has stored, to be looked at by the names of tables."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.state = MemoryTables(
            rows=dict(stored.rows),
            facts=dict(stored.facts),
            parked={place: KeptEvent(at, event, 0, 0) for place, (at, event) in enumerate(stored.parked)},
            intents={key: StoredIntent(intent, 0) for key, intent in stored.intents.items()},
        )
        self.is_busy = bool(stored.intents) or any(head.state is InboxState.PARKED for _, head in stored.heads())
        self._lines: dict[str, list[Any]] = {}
        self._by_id: dict[tuple[str, str], Any] = {}
        lines: list[Row | Fact] = [*stored.rows.values(), *stored.facts.values()]
        for line in lines:
            self._lines.setdefault(line.TABLE, []).append(line)
            self._by_id[line.TABLE, str(line.id)] = line

    def all(self, table: str) -> Sequence[Any]:
        """The rows or facts of a table."""
        return self._lines.get(table, ())

    def one(self, table: str, line_id: str) -> Any:
        """The row or fact of that id, or None."""
        return self._by_id.get((table, line_id))


@dataclass(frozen=True, slots=True)
class View:
    """A state: what the four services have stored, and the bank's book. `given_up`: an operator has discarded an
    event. `mistaken`: he has said that there is a charge where there was none.
    """

    order: Tables
    payment: Tables
    inventory: Tables
    notification: Tables
    book: frozenset[Booked]
    given_up: bool
    mistaken: bool

    @property
    def services(self) -> Mapping[str, Tables]:
        return {
            "order": self.order,
            "payment": self.payment,
            "inventory": self.inventory,
            "notification": self.notification,
        }

    def booked(self, kind: str, order_id: str) -> list[Booked]:
        return [line for line in self.book if (line.kind, line.order_id) == (kind, order_id)]


class PromiseCheck:
    """Knows what the shops want and what was put on the shelves, and says in sentences what is not so."""

    def __init__(self, setting: Setting) -> None:
        self._wanted = {str(shop.first.order_id): shop.expected for shop in setting.shops}

    def is_placed(self, order: Tables, shop: Shopping) -> bool:
        return order.one("orders", str(shop.first.order_id)) is not None

    def has_ended(self, view: View) -> bool:
        """Every order that was placed has its last status, and its money is where it belongs."""
        orders = view.order.all("orders")
        return all(row.status in ("COMPLETED", "FAILED") and row.refund not in ("due", "refused") for row in orders)

    # One step of one service

    def step(self, service: str, before: Stored, after: Stored, taken: Taken) -> Iterator[str]:
        """What a service must not do, whatever the others have done."""
        if taken.refused:
            yield f"the database of {service} has to refuse: {taken.refused}"
        for result in taken.results:
            failure = result.failure
            if failure is not None and not _may_fail(before, failure.error):
                yield f"{service} refuses {result.incoming.event_type}: {failure.error}: {failure.message}"
        said: Counter[tuple[str, str]] = Counter()
        rows = dict(before.rows)
        for row in taken.written:
            yield from _row_moves(rows.get(row.ref), row, said)
            rows[row.ref] = row
        for name, fact in after.facts.items():
            if name not in before.facts and fact.TABLE == "reservations":
                _say(said, "reservations", fact)
        told: Counter[tuple[str, str]] = Counter()
        for record in taken.published:
            if record.topic != "flow-status" and not record.topic.endswith(".DLT"):
                kind = header_text(record.headers, "ce_type").removeprefix("orderflow.").partition(".v")[0]
                told[kind, (record.key or b"").decode()] += 1
                yield from self._event(kind, record)
        if said != told:
            yield f"{service} publishes {_listed(told)}, and what it has stored makes it {_listed(said)}"
        yield from _waiting(before, after, taken)

    def command(self, command: Any, before: Stored, taken: Taken) -> Iterator[str]:
        """What a caller must be answered."""
        match type(command).__name__:
            case "PlaceOrder":
                yield from self._placed(command, before, taken)
            case "SettlePayment":
                outcome, order_id = str(command.outcome), str(command.order_id)
                payment = Tables(before).one("payments", order_id)
                may = payment is not None and outcome in WORDS.get(str(payment.status), ())
                if payment is not None and outcome == "not-charged" and payment.status.startswith("REFUND"):
                    may = payment.charge_reference == BY_WORD
                if not may and taken.after != before:
                    yield f"an operator's word ({outcome}) changes a payment that is {payment and payment.status}"
            case "SetStock":
                row = Tables(taken.after).one("stock", command.sku)
                if row is None or row.on_hand != command.on_hand:
                    yield f"somebody has counted {command}, and stored is {row}"

    def _placed(self, command: Any, before: Stored, taken: Taken) -> Iterator[str]:
        [result] = taken.results
        known = Tables(before).one("idempotency_keys", command.idempotency_key)
        if known is None:
            yield from self._told_so(str(command.order_id), result.answer)
            return
        if taken.after != before:
            yield f"a request under a known key ({command.idempotency_key}) changes something"
        if command.fingerprint != known.fingerprint:
            if result.refusal is None:
                yield f"{command.idempotency_key} comes with another order, and is answered {result.answer}"
        elif getattr(result.answer, "order_id", None) != known.order_id:
            yield f"{command.idempotency_key} was answered {known.order_id}, and is answered {result.answer} now"

    def _told_so(self, order_id: str, answer: Any) -> Iterator[str]:
        """The answer says what was ordered, in whole numbers."""
        said = msgspec.json.decode(answer.response) if answer is not None else {}
        expected = self._wanted.get(order_id)
        right = (order_id, expected.currency, expected.total) if expected is not None else ()
        total = said.get("total")
        if (said.get("id"), said.get("currency"), total) != right or type(total) is not int:
            yield f"the shop is answered {said}, expected {right}"

    def _event(self, kind: str, record: OutboxRecord) -> Iterator[str]:
        told = msgspec.json.decode(record.value or b"null")
        expected = self._wanted.get(str(told.get("order_id")))
        if expected is None:
            yield f"{kind} is about {told.get('order_id')}, which nobody has ordered so"
            return
        right = {
            "customer_id": expected.customer_id,
            "currency": expected.currency,
            "total": expected.total,
            "amount": expected.total,
            "items": [{"sku": sku, "quantity": count, "unit_price": price} for sku, count, price in expected.lines],
            "payment_method": expected.payment_method,
        }
        for name, found in told.items():
            if name in right and (found != right[name] or type(found) is not type(right[name])):
                yield f"{kind} says {name} {found!r}, right is {right[name]!r}"

    # A state of all

    def state(self, view: View, at_rest: bool) -> Iterator[str]:
        """What is not as it must be at every moment, or when nothing is under way any more."""
        for order_id, expected in self._wanted.items():
            yield from self._order(view, order_id, expected)
            yield from self._money(view, order_id, expected)
            yield from self._notices(view, order_id, expected)
            if at_rest:
                yield from self._end(view, order_id)
        yield from self._stock(view)
        yield from self._audit(view, at_rest)

    def _order(self, view: View, order_id: str, expected: ExpectedOrder) -> Iterator[str]:
        order, payment = view.order.one("orders", order_id), view.payment.one("payments", order_id)
        reservation = view.inventory.one("reservations", order_id)
        booked = any(line.order_id == order_id for line in view.book)
        if order is None:
            if payment or reservation or _notices(view, order_id) or booked:
                yield f"{order_id} was not placed, and others know of it"
            return
        yield from _same(f"the order {order_id}", order, order.total, expected)
        if payment is not None:
            yield from _same(f"the payment of {order_id}", payment, payment.amount, expected)
        rejected = reservation is not None and reservation.status == "REJECTED"
        if reservation is not None:
            units = {line.sku: line.quantity for line in reservation.lines}
            if units != ({} if rejected else dict(expected.units)) or rejected != bool(reservation.missing):
                yield f"{order_id} is {reservation.status} with {units}"
        yield from _may_be(order, payment, reservation, rejected)

    def _money(self, view: View, order_id: str, expected: ExpectedOrder) -> Iterator[str]:
        """What the bank has booked, and what payment has."""
        payment, reservation = view.payment.one("payments", order_id), view.inventory.one("reservations", order_id)
        charges, refunds = view.booked("charge", order_id), view.booked("refund", order_id)
        for kind, lines in (("charge", charges), ("refund", refunds)):
            right = (f"{kind}:{order_id}", expected.total, expected.currency)
            if len(lines) > 1 or any((line.key, line.amount, line.currency) != right for line in lines):
                yield f"the bank has booked {lines}, right is one {kind} {right}"
        if refunds and (reservation is None or reservation.status != "REJECTED"):
            yield f"{order_id} is refunded, and its stock was not rejected"
        if payment is not None:
            yield from _books_agree(view, payment, expected.total)
            yield from _is_asked(view, payment)

    def _notices(self, view: View, order_id: str, expected: ExpectedOrder) -> Iterator[str]:
        payment, reservation = view.payment.one("payments", order_id), view.inventory.one("reservations", order_id)
        status = "" if payment is None else str(payment.status)
        stock = "" if reservation is None else str(reservation.status)
        digits = DIGITS[expected.currency]
        amount = f"{expected.total / 10**digits:.{digits}f} {expected.currency}"
        for notice in _notices(view, order_id):
            true = {
                "completed": stock == "RESERVED",
                "failed": stock == "REJECTED" or status == "DECLINED",
                "refunded": status == "REFUNDED",
                "not_charged": _is_void(payment),
            }
            if not true[str(notice.outcome)] or notice.customer_id != expected.customer_id:
                yield f"{notice.customer_id} is told that {order_id} is {notice.outcome}: {status} {stock}"
            if (notice.outcome == "refunded" or notice.reason == status == "DECLINED") and amount not in notice.text:
                yield f"the notice of {order_id} does not say {amount}: {notice.text}"

    def _end(self, view: View, order_id: str) -> Iterator[str]:
        """Where nothing was given up and nobody has to act, the order is at the right end, and the customer knows."""
        order, payment = view.order.one("orders", order_id), view.payment.one("payments", order_id)
        dead = any(event.key == order_id for tables in view.services.values() for _, event in tables.stored.parked)
        if order is None or view.given_up or dead:
            return
        if payment is None:
            yield f"{order_id} was placed, and payment has not heard of it"
            return
        reservation = view.inventory.one("reservations", order_id)
        rejected = reservation is not None and reservation.status == "REJECTED"
        failed = rejected or payment.status == "DECLINED"
        if order.status != ("FAILED" if failed else "COMPLETED"):
            yield f"{order_id} ends as {order.status}: payment {payment.status}, stock {reservation}"
        refund = REFUND_OF.get(str(payment.status), "not known") if rejected else "none"
        if order.refund != refund:
            yield f"the refund of {order_id} is {order.refund}, right is {refund}"
        told = {str(notice.outcome) for notice in _notices(view, order_id)}
        right = {"failed" if failed else "completed", *TOLD_OF.get(refund, ())}
        if told != right:
            yield f"of {order_id} is told {sorted(told)}, right is {sorted(right)}"

    def _stock(self, view: View) -> Iterator[str]:
        """What is on the shelves and set aside is what people have put there."""
        held: Counter[str] = Counter()
        for reservation in view.inventory.all("reservations"):
            held.update({line.sku: line.quantity for line in reservation.lines})
        moved: Counter[str] = Counter()
        for movement in view.inventory.all("movements"):
            moved[movement.sku] += movement.on_hand_change + movement.reserved_change
        for row in view.inventory.all("stock"):
            if row.on_hand < 0 or row.reserved != held[row.sku] or row.on_hand + row.reserved != moved[row.sku]:
                yield f"{row.sku}: {row.on_hand} on hand, {row.reserved} reserved, held {held[row.sku]}"

    def _audit(self, view: View, at_rest: bool) -> Iterator[str]:
        states = {name: tables.state for name, tables in view.services.items()}
        books = books_of(states, _as_book(view.book), {})
        accepted = [str(row.id) for row in view.order.all("orders")]
        report = check(books, at_rest=at_rest and not view.given_up, accepted=accepted)
        for finding in report.findings:
            if not (view.mistaken and finding.what in OF_A_MISTAKE) and not _passes(finding, at_rest):
                yield f"audit: {finding}"


def payments_of(payment: Tables) -> Sequence[Any]:
    return payment.all("payments")


def _notices(view: View, order_id: str) -> list[Any]:
    return [notice for notice in view.notification.all("notifications") if str(notice.order_id) == order_id]


def _is_void(payment: Any) -> bool:
    """What an operator had said to be charged was not."""
    return payment is not None and payment.status == "DECLINED" and payment.reason == BY_WORD


def _may_be(order: Any, payment: Any, reservation: Any, rejected: bool) -> Iterator[str]:
    """What the order says of itself is so elsewhere."""
    captured = payment is not None and payment.captured > 0
    what = f"{order.id} is {order.status} ({order.reason}, refund {order.refund})"
    match str(order.status):
        case "PAID" if not captured and not _is_void(payment):
            yield f"{what}, and its payment is not captured"
        case "COMPLETED" if not captured or reservation is None or rejected or order.refund != "none":
            yield f"{what}: captured {captured}, {reservation}"
        case "FAILED" if rejected and (order.reason != "out_of_stock" or order.refund == "none"):
            yield f"{what}, and its stock was rejected"
        case "FAILED" if not rejected:
            declined = payment is not None and payment.status == "DECLINED" and payment.reason
            if not declined or order.reason != payment.reason:
                yield f"{what}, and its payment is {payment}"
        case _:
            pass


def _books_agree(view: View, payment: Any, total: int) -> Iterator[str]:
    """The bank may be ahead of our book, and never behind it."""
    order = view.order.one("orders", str(payment.id))
    charged, refunded = view.booked("charge", str(payment.id)), view.booked("refund", str(payment.id))
    what = (
        f"the payment of {payment.id} is {payment.status}, captured {payment.captured}, refunded {payment.refunded}"
    )
    if payment.captured and not charged and not view.mistaken:
        yield f"{what}, and the bank has no charge"
    if payment.refunded and not refunded and payment.refund_reference != BY_WORD:
        yield f"{what}, and the bank has no refund"
    if {payment.captured, payment.refunded} - {0, total} or payment.refunded > payment.captured:
        yield f"{what}, of {total}"
    if payment.status == "DECLINED" and charged:
        yield f"{what}, and the bank has charged it"
    is_done = order is not None and order.refund == "done"
    if (payment.status == "REFUNDED" or is_done) and payment.refunded != total:
        yield f"{what}, and all of {total} should be back"


def _is_asked(view: View, payment: Any) -> Iterator[str]:
    """The bank is asked for as long as it has not answered, and no longer."""
    waits = any(event.intent is not None for _, event in view.payment.stored.parked if event.key == str(payment.id))
    for kind, while_in in (("charge", ("CHARGING", "UNKNOWN")), ("refund", ("REFUND_DUE",))):
        is_open = f"{kind}:{payment.id}" in view.payment.stored.intents
        if is_open != (payment.status in while_in) and not waits and not view.given_up:
            yield f"the {kind} of {payment.id} is {'' if is_open else 'not '}asked for: it is {payment.status}"


def _same(what: str, row: Any, total: object, expected: ExpectedOrder) -> Iterator[str]:
    lines = tuple((item.sku, item.quantity, item.unit_price) for item in row.items)
    found = (row.customer_id, row.currency, lines, row.payment_method, total)
    right = (expected.customer_id, expected.currency, expected.lines, expected.payment_method, expected.total)
    if found != right or type(total) is not int:
        yield f"{what} is {found!r}, expected {right!r}"


def _may_fail(before: Stored, error: str) -> bool:
    """What is made to; and where an operator has settled a payment, the bank's late answer can contradict him."""
    if error == MadeToFailError.__name__:
        return True
    rows = payments_of(Tables(before))
    by_word = any(BY_WORD in (row.charge_reference, row.refund_reference, row.reason) for row in rows)
    return error == "ContradictionError" and by_word


def _say(said: Counter[tuple[str, str]], table: str, row: Any) -> None:
    """What comes to be so is published, exactly then."""
    event = SAID.get((table, str(row.status)))
    if event is not None:
        said[event, str(row.id)] += 1


def _row_moves(before: Any, row: Any, said: Counter[tuple[str, str]]) -> Iterator[str]:
    tables: Mapping[str, Mapping[str, Sequence[str]]] = {"orders": ORDER_STEPS, "payments": PAYMENT_STEPS}
    steps = tables.get(row.TABLE)
    if steps is None or before == row:
        return
    if before is None:
        if row.version != 1 or row.status not in ("PENDING", "CHARGING"):
            yield f"{row.TABLE} {row.id} begins as {row.status} version {row.version}"
        _say(said, row.TABLE, row)
        return
    was, now = str(before.status), str(row.status)
    following = (*steps.get(was, ()), *(STEPS_BY_WORD.get(was, ()) if row.TABLE == "payments" else ()))
    if was != now and (now not in following or row.version != before.version + 1):
        yield f"{row.TABLE} {row.id} goes from {was} version {before.version} to {now} version {row.version}"
    if was == now and before.version != row.version:
        yield f"{row.TABLE} {row.id} stays {was} and becomes version {row.version}"
    if was != now:
        is_void = row.TABLE == "payments" and was.startswith("REFUND") and now == "DECLINED"
        if is_void:
            said["PaymentVoided", str(row.id)] += 1
        else:
            _say(said, row.TABLE, row)
    if row.TABLE == "orders":
        yield from _refund_step(before, row)


def _refund_step(before: Any, row: Any) -> Iterator[str]:
    was, now = str(before.refund), str(row.refund)
    if was != now and now not in (*REFUND_STEPS.get(was, ()), *VOIDS.get(was, ())):
        yield f"the refund of {row.id} goes from {was} to {now}"


def _waiting(before: Stored, after: Stored, taken: Taken) -> Iterator[str]:
    """What is stuck or flows again is said, and what is given up is on a dead-letter topic."""
    was = {(at, event.key, event.identity): event for at, event in before.parked}
    now = {(at, event.key, event.identity): event for at, event in after.parked}
    right: Counter[str] = Counter()
    letters = 0
    for name, event in now.items():
        known = was.get(name)
        is_new = known is None or not known.attempts
        if event.attempts and event.record.topic != FLOW_STATUS and event != known:
            right["Dead"] += event.state is InboxState.DEAD
            right["Parked"] += event.state is not InboxState.DEAD and is_new
        letters += event.state is InboxState.DEAD and event != known and event.record.topic != ""
    flowing = {(at, event.key): event.record.topic for at, event in before.parked}
    for place in flowing.keys() - {(at, event.key) for at, event in after.parked}:
        right["Reopened"] += flowing[place] != FLOW_STATUS
    told = Counter(
        header_text(record.headers, "ce_type").removeprefix("orderflow.").partition(".v")[0]
        for record in taken.published
        if record.topic == FLOW_STATUS
    )
    if +told != +right:
        yield f"said of what is stuck is {dict(told)}, right is {dict(+right)}"
    found = sum(record.topic.endswith(".DLT") for record in taken.published)
    if found != letters:
        yield f"{found} dead letters are published, right is {letters}"


def _passes(finding: Finding, at_rest: bool) -> bool:
    """Between two transactions of the retrier, what was held has no head before it."""
    return not at_rest and finding.what.startswith("events are held")


def _as_book(book: frozenset[Booked]) -> MemoryBook:
    found = MemoryBook()
    for line in sorted(book):
        about: dict[str, Any] = {"order_id": line.order_id, "amount": line.amount, "currency": line.currency}
        if line.kind in ("charge", "decline"):
            found.charges[line.key] = Charge(
                key=line.key, payment_method="", decline_code=line.code or None, reference="", **about
            )
        elif line.kind == "refund":
            found.refunds[line.key] = BankRefund(key=line.key, charge="", reference="", **about)
    return found


def _listed(counted: Counter[tuple[str, str]]) -> str:
    return ", ".join(f"{count} {event} of {key}" for (event, key), count in sorted(counted.items())) or "nothing"
