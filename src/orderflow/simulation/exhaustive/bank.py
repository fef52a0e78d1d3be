"""A bank that may do anything a bank may do, and does each of it in turn.

The gateway before it is the one that runs in production. What the bank has booked under a key stands for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Any, NamedTuple

from orderflow.bank.bank import BankFailedError, DeclinedError
from orderflow.messaging.decision import Intent
from orderflow.messaging.message import Answer
from orderflow.payment.messages import Outcome
from orderflow.payment.service import BankGateway

DECLINE = "card_declined"
BLOCKED = "blocked_by_operator"
GONE = "expired_or_canceled_card"
MISSING = "charge_missing"
WAITS_S = 60.0


class Booked(NamedTuple):
    """A line of the bank's book. `kind`: charge, decline, refund, or no-refund (the bank will not give it back)."""

    kind: str
    key: str
    order_id: str
    amount: int
    currency: str
    code: str = ""


Book = AbstractSet[Booked]


class Act(StrEnum):
    """What the bank does when it is asked, as far as its book leaves it a choice."""

    AGREES = "agrees"
    REFUSES = "refuses"
    BOOKS_NOTHING = "books nothing"


def answer_of(book: Book, intent: Intent, act: Act, *, in_time: bool) -> tuple[frozenset[Booked], Answer]:
    """The book after the call, and what the gateway makes of it."""
    bank = _Bank(book, act, in_time=in_time)
    gateway = BankGateway(bank, WAITS_S)
    answer = asyncio.run(gateway.ask(intent))
    return frozenset(bank.book), answer


def true_words(book: Book, payment: Any) -> Mapping[Outcome, frozenset[Booked]]:
    """What an operator can truly say of a payment when he has asked the bank in another way, and the book after it.

    Where it says that nothing was charged, it blocks the key for ever; where the customer gets his money in another
    way, it will not give it back any more.
    """
    charge = _line(book, f"charge:{payment.order_id}", "charge")
    refund_key = f"refund:{payment.order_id}"
    refused = _line(book, refund_key, "no-refund")
    about = (str(payment.order_id), payment.amount, payment.currency)
    same = frozenset(book)
    match str(payment.status):
        case "CHARGING" | "UNKNOWN" if charge is not None:
            return {Outcome.CHARGED: same}
        case "CHARGING" | "UNKNOWN":
            known = _line(book, f"charge:{payment.order_id}", "decline")
            blocked = known or Booked("decline", f"charge:{payment.order_id}", *about, BLOCKED)
            return {Outcome.NOT_CHARGED: same | {blocked}}
        case "REFUND_DUE" | "REFUND_REFUSED" if charge is None:
            return {Outcome.NOT_CHARGED: same}
        case "REFUND_DUE" if _line(book, refund_key, "refund") is not None:
            return {Outcome.REFUNDED: same}
        case "REFUND_REFUSED" if refused is not None:
            return {Outcome.REFUNDED: same, Outcome.ASK_AGAIN: same - {refused}}
        case _:
            return {}


def _line(book: Book, key: str, kind: str) -> Booked | None:
    return next((line for line in book if (line.key, line.kind) == (key, kind)), None)


class _Bank:
    """Answers one call. See `payment.gateway.Bank`."""

    def __init__(self, book: Book, act: Act, *, in_time: bool) -> None:
        self.book = set(book)
        self._act = act
        self._in_time = in_time

    async def charge(self, key: str, *, order_id: str, amount: int, currency: str, payment_method: str) -> str:
        known = self._known(key, "charge", "decline")
        if known is None and self._act is not Act.BOOKS_NOTHING:
            kind, code = ("charge", "") if self._act is Act.AGREES else ("decline", DECLINE)
            known = Booked(kind, key, order_id, amount, currency, code)
            self.book.add(known)
        return self._say("ch", known)

    async def refund(self, key: str, *, order_id: str, amount: int, currency: str, charge: str) -> str:
        known = self._known(key, "refund", "no-refund")
        paid = self._known(charge, "charge")
        if known is None and (paid is None or paid.amount < amount):
            known = Booked("no-refund", key, order_id, amount, currency, MISSING)
        elif known is None and self._act is not Act.BOOKS_NOTHING:
            kind, code = ("refund", "") if self._act is Act.AGREES else ("no-refund", GONE)
            known = Booked(kind, key, order_id, amount, currency, code)
            self.book.add(known)
        return self._say("re", known)

    async def close(self) -> None:
        """Nothing is held."""

    def _known(self, key: str, *kinds: str) -> Booked | None:
        return next((line for line in self.book if line.key == key and line.kind in kinds), None)

    def _say(self, prefix: str, line: Booked | None) -> str:
        if line is None or not self._in_time:
            raise BankFailedError("no answer in time")
        if line.code:
            raise DeclinedError(line.code)
        return f"{prefix}_{line.key}"
