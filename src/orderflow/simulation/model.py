"""What should happen, said a second time: a model of the four services and the bank beside the code that is tested.

It is told of each commit and each booking as they happen, and says at once what must not be. It shares no code with
the services: their rows, facts and events are looked at by the names of their tables, columns and JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from orderflow.core.identity import uuid_text
from orderflow.core.store import Changes

Said = dict[tuple[str, str], int]
"""How often each kind of event was said of each order."""

KEPT = 20
ORDER_STEPS = {"PENDING": ("PAID", "FAILED"), "PAID": ("COMPLETED", "FAILED")}
PAYMENT_STEPS = {
    "CHARGING": ("CAPTURED", "DECLINED", "UNKNOWN"),
    "UNKNOWN": ("CAPTURED", "DECLINED"),
    "CAPTURED": ("REFUND_DUE",),
    "REFUND_DUE": ("REFUNDED", "REFUND_REFUSED"),
    "REFUND_REFUSED": ("REFUND_DUE", "REFUNDED"),
}
REFUND_STEPS = {"none": ("due", "done", "refused"), "due": ("done", "refused"), "refused": ("done", "due")}
SAID = MappingProxyType(
    {
        ("orders", "PENDING"): "OrderPlaced",
        ("orders", "COMPLETED"): "OrderCompleted",
        ("orders", "FAILED"): "OrderFailed",
        ("payments", "CAPTURED"): "PaymentSucceeded",
        ("payments", "DECLINED"): "PaymentFailed",
        ("payments", "REFUNDED"): "PaymentRefunded",
        ("payments", "REFUND_REFUSED"): "RefundFailed",
        ("reservations", "RESERVED"): "StockReserved",
        ("reservations", "REJECTED"): "StockRejected",
    }
)
"""What is published when a row comes to be so: exactly then, exactly once."""

DIGITS = {"EUR": 2, "USD": 2, "JPY": 0, "KWD": 3}
NO_REFUND = "pm_card_refundFail"
DECLINES = {"pm_card_chargeDeclined": "card_declined"}


class ExpectedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order as its shop asked for it."""

    customer_id: str
    currency: str
    lines: tuple[tuple[str, int, int], ...]
    """SKU, quantity, unit price."""
    payment_method: str

    @property
    def total(self) -> int:
        return sum([quantity * price for _, quantity, price in self.lines])

    @property
    def units(self) -> Mapping[str, int]:
        units: Counter[str] = Counter()
        for sku, quantity, _ in self.lines:
            units[sku] += quantity
        return units


class Model:
    """The world as it should be. `broken` are sentences about what should not be."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.expected: dict[str, ExpectedOrder] = {}
        self.orders: dict[str, Any] = {}
        self.payments: dict[str, Any] = {}
        self.reservations: dict[str, str] = {}
        self.charged: dict[str, int] = {}
        self.declined: set[str] = set()
        self.refunded: dict[str, int] = {}
        self.by_word: set[str] = set()
        """Orders whose money an operator has given back in another way, since the bank would not."""
        self._notified: set[tuple[str, str]] = set()
        self._on_hand: Counter[str] = Counter()
        self._reserved: Counter[str] = Counter()
        self._stock_versions: Counter[str] = Counter()

    def say(self, sentence: str) -> None:
        """Something is not as it should be."""
        if len(self.broken) < KEPT:
            self.broken.append(f"model: {sentence}")

    def committed(self, staged: Sequence[Changes], open_intents: Mapping[str, object]) -> None:
        """A service has committed this; `open_intents` are those that are open now."""
        said: Said = {}
        for changes in staged:
            for fact in changes.facts:
                self._fact(fact, said)
            for row in changes.rows:
                self._row(row, said)
            self._stock_agrees(changes)
        told: Said = {}
        for changes in staged:
            for record in changes.outbox:
                if record.topic.endswith(".DLT") or record.topic == "flow-status":
                    continue
                kind = _header(record.headers, "ce_type").removeprefix("orderflow.").split(".v")[0]
                name = kind, (record.key or b"").decode()
                told[name] = told.get(name, 0) + 1
                self._event(kind, record.value or b"null")
        if said != told:
            self.say(f"published is {told} and not {said}")
        for changes in staged:
            self._intents(changes, open_intents)

    def charge(self, key: str, order_id: str, amount: int, currency: str, declined: bool) -> None:
        """The bank has booked a charge, or the refusal of one."""
        expected = self._of(order_id)
        if expected is None:
            return
        if (key, amount, currency) != (f"charge:{order_id}", expected.total, expected.currency):
            self.say(f"the bank was asked {key} {amount} {currency}, expected {expected.total} {expected.currency}")
        if declined:
            self.declined.add(order_id)
        elif order_id in self.charged:
            self.say(f"{order_id} is charged twice")
        else:
            self.charged[order_id] = amount

    def refund(self, key: str, order_id: str, amount: int, currency: str) -> None:
        """The bank has given money back."""
        expected = self._of(order_id)
        if expected is None:
            return
        if (key, amount, currency) != (f"refund:{order_id}", expected.total, expected.currency):
            self.say(f"the bank gave back {key} {amount} {currency}, expected {expected.total} {expected.currency}")
        if order_id in self.refunded:
            self.say(f"{order_id} is refunded twice")
        if self.reservations.get(order_id) != "REJECTED":
            self.say(f"{order_id} is refunded although its stock was not rejected")
        self.refunded[order_id] = amount

    def is_asked_for(self, order_id: str) -> bool:
        """Whether the payment service does not know yet what became of the charge."""
        payment = self.payments.get(order_id)
        return payment is not None and payment.status in ("CHARGING", "UNKNOWN")

    def has_ended(self, order_id: str) -> bool:
        """The order has its last status, and its money is where it belongs."""
        order = self.orders.get(order_id)
        return order is not None and order.status in ("COMPLETED", "FAILED") and order.refund != "due"

    def at_rest(self, order_id: str) -> None:
        """The order has come to its end, and nobody has to act: it has to be the right one."""
        order, expected = self.orders.get(order_id), self.expected.get(order_id)
        if order is None or expected is None:
            return
        declined, rejected = order_id in self.declined, self.reservations.get(order_id) == "REJECTED"
        right = "FAILED" if declined or rejected else "COMPLETED"
        if order.status != right:
            self.say(f"{order_id} ended as {order.status} and not as {right}")
        if (expected.payment_method in DECLINES) != declined and order_id not in self.charged:
            self.say(f"{order_id} with {expected.payment_method} is {'' if declined else 'not '}declined")
        refused = expected.payment_method == NO_REFUND
        if (rejected and not refused) != (order_id in self.refunded):
            self.say(f"{order_id}: rejected is {rejected}, refunded {order_id in self.refunded}")

    def _of(self, order_id: str) -> ExpectedOrder | None:
        expected = self.expected.get(order_id)
        if expected is None:
            self.say(f"nobody ever ordered {order_id}")
        return expected

    def _row(self, row: Any, said: Said) -> None:
        if row.TABLE == "orders":
            self._order(row, said)
        elif row.TABLE == "payments":
            self._payment(row, said)

    def _order(self, row: Any, said: Said) -> None:
        order_id = uuid_text(row.order_id)
        expected = self._of(order_id)
        if expected is None:
            return
        before = self.orders.get(order_id)
        self._same(f"order {order_id}", row, expected, row.total)
        self._step("order", order_id, before, row, ORDER_STEPS, "PENDING")
        was_refund = str(before.refund) if before is not None else "none"
        if str(row.refund) not in (was_refund, *REFUND_STEPS.get(was_refund, ())):
            self.say(f"the refund of {order_id} goes from {was_refund} to {row.refund}")
        if row.refund == "done" and order_id not in self.refunded and order_id not in self.by_word:
            self.say(f"{order_id} says that it is refunded, the bank does not")
        if before is None or before.status != row.status:
            _comes_to_be(said, "orders", row.status, order_id)
            self._order_may_be(order_id, row)
        self.orders[order_id] = row

    def _order_may_be(self, order_id: str, row: Any) -> None:
        payment, reservation = self.payments.get(order_id), self.reservations.get(order_id)
        captured = payment is not None and payment.captured > 0
        match str(row.status):
            case "PAID" if not captured:
                self.say(f"{order_id} is PAID and was not charged")
            case "COMPLETED" if not captured or reservation != "RESERVED":
                self.say(f"{order_id} is COMPLETED: charged {captured}, stock {reservation}")
            case "FAILED":
                reason = "out_of_stock" if captured else payment.reason if payment is not None else None
                if (captured and reservation != "REJECTED") or not reason or row.reason != reason:
                    self.say(f"{order_id} FAILED for {row.reason}: charged {captured}, stock {reservation}")
                if captured and row.refund == "none":
                    self.say(f"{order_id} FAILED, and its refund is not due")
            case _:
                pass

    def _payment(self, row: Any, said: Said) -> None:
        order_id = uuid_text(row.order_id)
        expected = self._of(order_id)
        if expected is None:
            return
        before = self.payments.get(order_id)
        self._same(f"payment {order_id}", row, expected, row.amount)
        self._step("payment", order_id, before, row, PAYMENT_STEPS, "CHARGING")
        if row.captured != (self.charged.get(order_id, -1) if row.captured else 0):
            self.say(f"payment {order_id} captured {row.captured}, the bank {self.charged.get(order_id)}")
        back = expected.total if order_id in self.by_word else self.refunded.get(order_id, -1)
        if row.refunded != (back if row.refunded else 0):
            self.say(f"payment {order_id} refunded {row.refunded}, the bank {self.refunded.get(order_id)}")
        if row.status == "DECLINED" and order_id not in self.declined:
            self.say(f"payment {order_id} is DECLINED, and the bank has not declined it")
        if row.status == "CAPTURED" and not row.captured:
            self.say(f"payment {order_id} is CAPTURED without money")
        if row.status == "REFUND_REFUSED" and expected.payment_method != NO_REFUND:
            self.say(f"the refund of {order_id} is refused, which the bank does not do")
        if row.status == "REFUNDED" and row.refunded != expected.total:
            self.say(f"payment {order_id} is REFUNDED with {row.refunded}")
        if before is None or before.status != row.status:
            _comes_to_be(said, "payments", row.status, order_id)
        self.payments[order_id] = row

    def _same(self, what: str, row: Any, expected: ExpectedOrder, total: object) -> None:
        """As it was asked for, and an amount is a whole number."""
        lines = tuple((item.sku, item.quantity, item.unit_price) for item in row.items)
        found = (row.customer_id, row.currency, lines, row.payment_method, total)
        right = (expected.customer_id, expected.currency, expected.lines, expected.payment_method, expected.total)
        if found != right or type(total) is not int:
            self.say(f"{what} is {found!r}, expected {right!r}")

    def _step(
        self, what: str, order_id: str, before: Any, row: Any, steps: Mapping[str, Sequence[str]], first: str
    ) -> None:
        if before is None:
            if (row.status, row.version) != (first, 1):
                self.say(f"{what} {order_id} begins as {row.status} version {row.version}")
        elif before.status == row.status:
            if before.version != row.version:
                self.say(f"{what} {order_id} stays {row.status} and becomes version {row.version}")
        elif row.status not in steps.get(str(before.status), ()) or row.version != before.version + 1:
            self.say(f"{what} {order_id} goes from {before.status} to {row.status} version {row.version}")

    def _fact(self, fact: Any, said: Said) -> None:
        match fact.TABLE:
            case "reservations":
                self._reservation(fact, said)
            case "movements":
                self._movement(fact)
            case "notifications":
                self._notification(fact)
            case _:
                pass

    def _reservation(self, fact: Any, said: Said) -> None:
        order_id = uuid_text(fact.order_id)
        expected = self._of(order_id)
        if expected is None:
            return
        if order_id in self.reservations:
            self.say(f"{order_id} is reserved twice")
        if order_id not in self.charged:
            self.say(f"stock is answered for {order_id}, which is not charged")
        self.reservations[order_id] = str(fact.status)
        _comes_to_be(said, "reservations", fact.status, order_id)
        lacking = [sku for sku, quantity in expected.units.items() if self._on_hand[sku] < quantity]
        lines = {line.sku: line.quantity for line in fact.lines}
        right = {} if lacking else dict(expected.units)
        if lines != right or (fact.status == "REJECTED") != bool(lacking):
            self.say(f"{order_id} is {fact.status} with {lines}, right is {right} ({', '.join(lacking)} lacking)")
        if lacking != [line.sku for line in fact.missing if line.sku in lacking] or len(fact.missing) != len(lacking):
            self.say(f"{order_id}: missing is {fact.missing}, right is {lacking}")

    def _movement(self, fact: Any) -> None:
        self._stock_versions[fact.sku] += 1
        if fact.version != self._stock_versions[fact.sku]:
            self.say(f"movement {fact.version} of {fact.sku} comes as number {self._stock_versions[fact.sku]}")
        self._on_hand[fact.sku] += fact.on_hand_change
        self._reserved[fact.sku] += fact.reserved_change
        if fact.kind == "reserve":
            expected = self.expected.get(str(fact.cause))
            units = expected.units.get(fact.sku, 0) if expected is not None else 0
            if (fact.on_hand_change, fact.reserved_change) != (-units, units):
                self.say(f"{fact.cause} moves {fact.reserved_change} {fact.sku}, right is {units}")

    def _stock_agrees(self, changes: Changes) -> None:
        last: dict[str, Any] = {row.sku: row for row in changes.rows if row.TABLE == "stock"}  # type: ignore[attr-defined]
        for sku, row in last.items():
            right = (self._on_hand[sku], self._reserved[sku], self._stock_versions[sku])
            if (row.on_hand, row.reserved, row.version) != right or row.on_hand < 0:
                self.say(f"stock of {sku} is {row.on_hand} + {row.reserved} v{row.version}, moved to {right}")

    def _notification(self, fact: Any) -> None:
        order_id, outcome = uuid_text(fact.order_id), str(fact.outcome)
        expected = self._of(order_id)
        if expected is None:
            return
        if (order_id, outcome) in self._notified:
            self.say(f"{order_id} is notified of {outcome} twice")
        self._notified.add((order_id, outcome))
        reservation = self.reservations.get(order_id)
        declined = order_id in self.declined
        right = {
            "completed": reservation == "RESERVED",
            "failed": reservation == "REJECTED" or declined,
            "refunded": order_id in self.refunded or order_id in self.by_word,
        }
        if not right.get(outcome) or fact.customer_id != expected.customer_id:
            self.say(f"{order_id} ({expected.customer_id}) is notified of {outcome}: {fact.customer_id}")
        amount = _amount(expected.total, expected.currency)
        of_money = outcome == "refunded" or (outcome == "failed" and declined)
        if of_money and f" {amount} " not in f" {fact.text} ":
            self.say(f"the notice of {order_id} does not say {amount}: {fact.text}")

    def _event(self, kind: str, value: bytes) -> None:
        """What is said of an order is what its shop expected, in whole numbers."""
        said = msgspec.json.decode(value)
        order_id = str(said.get("order_id"))
        expected = self._of(order_id)
        if expected is None:
            return
        items = [{"sku": sku, "quantity": count, "unit_price": price} for sku, count, price in expected.lines]
        right = {
            "customer_id": expected.customer_id,
            "currency": expected.currency,
            "total": expected.total,
            "amount": expected.total,
            "items": items,
            "payment_method": expected.payment_method,
        }
        for name, found in said.items():
            if name in right and (found != right[name] or type(found) is not type(right[name])):
                self.say(f"{kind} of {order_id} says {name} {found!r}, right is {right[name]!r}")

    def _intents(self, changes: Changes, open_intents: Mapping[str, object]) -> None:
        """The bank is asked for as long as it has not answered, and no longer."""
        for row in changes.rows:
            if row.TABLE != "payments":
                continue
            row_id = str(row.id)
            payment = self.payments.get(row_id)
            if payment is None:
                continue
            status = str(payment.status)
            for kind, while_in in (("charge", ("CHARGING", "UNKNOWN")), ("refund", ("REFUND_DUE",))):
                is_open = f"{kind}:{row_id}" in open_intents
                if is_open != (status in while_in):
                    self.say(f"the {kind} of {row.id} is {'' if is_open else 'not '}asked for while it is {status}")


def _comes_to_be(said: Said, table: str, status: object, order_id: str) -> None:
    event = SAID.get((table, str(status)))
    if event is not None:
        said[event, order_id] = said.get((event, order_id), 0) + 1


def _amount(amount: int, currency: str) -> str:
    digits = DIGITS[currency]
    text = str(amount).rjust(digits + 1, "0")
    return f"{text[:-digits]}.{text[-digits:]} {currency}" if digits else f"{text} {currency}"


def _header(headers: Sequence[tuple[str, bytes | None]], name: str) -> str:
    for key, value in headers:
        if key == name:
            return (value or b"").decode()
    return ""
