"""What is ordered, what is on the shelves, how much may go wrong, and a bank that may do anything.

The bank does each thing in turn that a bank may do. The gateway before it is the one that runs in production. What
it has booked under a key stands for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from orderflow.bank import BankFailedError, DeclinedError, Statement
from orderflow.core.identity import uuid5
from orderflow.core.messages import Answer
from orderflow.core.service import Intent
from orderflow.events.order import Item
from orderflow.services.inventory.messages import SetStock
from orderflow.services.order.api import with_response
from orderflow.services.order.messages import PlaceOrder
from orderflow.services.payment.messages import SettlementOutcome
from orderflow.services.payment.service import BankGateway
from orderflow.simulation.model import ExpectedOrder

APPLE, PEAR = "apple", "pear"
SHELVES: Mapping[str, int] = MappingProxyType({APPLE: 3, PEAR: 1})
FEWER_APPLES = 1
"""What somebody counts: too few for either order."""

PRICES: Mapping[str, int] = MappingProxyType({APPLE: 299, PEAR: 1_000})
METHOD = "pm_card_visa"


class Bounds(NamedTuple):
    """How often each may happen in one history. All else happens as often as it can.

    `failures`: a handler fails. `time_outs`: the bank does not answer in time. `counts`: somebody states the stock.
    `settles`: an operator settles a payment while the bank is asked. `asks`: he has the bank asked again for a refund
    that it has refused. `mistakes`: he says that there is a charge where there is none. `discards`: he gives a dead
    letter up. `overtakes`: an event is read before an earlier one of its key, as when partitions were added.
    """

    failures: int
    time_outs: int
    counts: int
    settles: int
    asks: int
    mistakes: int
    discards: int
    overtakes: int


class Run(NamedTuple):
    """A search that is worth a name."""

    orders: int
    bounds: Bounds
    about: str


NONE = Bounds(failures=0, time_outs=0, counts=0, settles=0, asks=0, mistakes=0, discards=0, overtakes=0)
RUNS: Mapping[str, Run] = MappingProxyType(
    {
        "faults": Run(
            1,
            NONE._replace(failures=1, time_outs=1, counts=1, asks=1),
            "a handler fails and is tried again, the bank is late, the stock is enough or not",
        ),
        "operators": Run(
            1,
            NONE._replace(time_outs=1, counts=1, settles=1, asks=1, mistakes=1),
            "operators settle payments, rightly and wrongly, and have the bank asked again",
        ),
        "discards": Run(
            1,
            NONE._replace(failures=2, discards=1),
            "handlers fail up to being given up; operators edit, replay or discard that",
        ),
        "overtaking": Run(
            1,
            NONE._replace(time_outs=1, counts=1, asks=1, overtakes=2),
            "partitions were added, so that events of one order overtake each other",
        ),
        "rivals": Run(
            2,
            NONE._replace(time_outs=1, counts=1),
            "two orders want the last units, and the bank is late",
        ),
    }
)


class Shopping(NamedTuple):
    """One order as its shop asks for it: `first`; the same once more, under the id that a second request would make;
    and another order under the same Idempotency-Key.
    """

    letter: str
    expected: ExpectedOrder
    first: PlaceOrder
    again: PlaceOrder
    other: PlaceOrder


class Setting(NamedTuple):
    """What a search begins with. `counted` is what somebody may state of the stock meanwhile."""

    shops: Sequence[Shopping]
    stock: Sequence[SetStock]
    counted: SetStock
    bounds: Bounds

    def names(self) -> Mapping[str, str]:
        """A letter for each order, by its id."""
        return {str(command.order_id): shop.letter for shop in self.shops for command in shop[2:]}


def setting_of(run: Run) -> Setting:
    """Two shops want apples of which there are enough for one; currencies of no and of three decimal places."""
    carts = (("A", "JPY", {APPLE: 2, PEAR: 1}), ("B", "KWD", {APPLE: 2}))
    shops = [_shopping(*cart) for cart in carts[: run.orders]]
    stock = [SetStock(sku=sku, on_hand=on_hand, may_lower=True) for sku, on_hand in SHELVES.items()]
    return Setting(shops, stock, SetStock(sku=APPLE, on_hand=FEWER_APPLES, may_lower=True), run.bounds)


def _shopping(letter: str, currency: str, cart: Mapping[str, int]) -> Shopping:
    lines = tuple((sku, quantity, PRICES[sku]) for sku, quantity in cart.items())
    expected = ExpectedOrder(customer_id=f"customer {letter}", currency=currency, lines=lines, payment_method=METHOD)
    return Shopping(
        letter,
        expected,
        first=_command(letter, expected, "first"),
        again=_command(letter, expected, "again"),
        other=_command(letter, expected, "other"),
    )


def _command(letter: str, expected: ExpectedOrder, which: str) -> PlaceOrder:
    """The ids of two requests differ: each is made at the edge."""
    command = PlaceOrder(
        order_id=order_id_of(letter, which),
        customer_id="somebody else" if which == "other" else expected.customer_id,
        currency=expected.currency,
        items=tuple(Item(sku=sku, quantity=quantity, unit_price=price) for sku, quantity, price in expected.lines),
        payment_method=expected.payment_method,
        idempotency_key=f"key {letter}",
        fingerprint="other" if which == "other" else "same",
    )
    return with_response(command)


def order_id_of(letter: str, which: str = "first") -> UUID:
    return uuid5(f"exhaustive\n{letter}\n{which}")


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


class BankReply(StrEnum):
    """What the bank does when it is asked, as far as its book leaves it a choice."""

    AGREES = "agrees"
    REFUSES = "refuses"
    BOOKS_NOTHING = "books nothing"


def answer_of(book: Book, intent: Intent, act: BankReply, *, in_time: bool) -> tuple[frozenset[Booked], Answer]:
    """The book after the call, and what the gateway makes of it."""
    bank = _Bank(book, act, in_time=in_time)
    gateway = BankGateway(bank, WAITS_S)
    answer = asyncio.run(gateway.ask(intent))
    return frozenset(bank.book), answer


def true_words(book: Book, payment: Any) -> Mapping[SettlementOutcome, frozenset[Booked]]:
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
            return {SettlementOutcome.CHARGED: same}
        case "CHARGING" | "UNKNOWN":
            known = _line(book, f"charge:{payment.order_id}", "decline")
            blocked = known or Booked("decline", f"charge:{payment.order_id}", *about, BLOCKED)
            return {SettlementOutcome.NOT_CHARGED: same | {blocked}}
        case "REFUND_DUE" | "REFUND_REFUSED" if charge is None:
            return {SettlementOutcome.NOT_CHARGED: same}
        case "REFUND_DUE" if _line(book, refund_key, "refund") is not None:
            return {SettlementOutcome.REFUNDED: same}
        case "REFUND_REFUSED" if refused is not None:
            return {SettlementOutcome.REFUNDED: same, SettlementOutcome.ASK_AGAIN: same - {refused}}
        case _:
            return {}


def _line(book: Book, key: str, kind: str) -> Booked | None:
    return next((line for line in book if (line.key, line.kind) == (key, kind)), None)


class _Bank:
    """Answers one call. See `payment.gateway.Bank`."""

    def __init__(self, book: Book, act: BankReply, *, in_time: bool) -> None:
        self.book = set(book)
        self._act = act
        self._in_time = in_time

    async def charge(self, key: str, *, order_id: str, amount: int, currency: str, payment_method: str) -> str:
        known = self._known(key, "charge", "decline")
        if known is None and self._act is not BankReply.BOOKS_NOTHING:
            kind, code = ("charge", "") if self._act is BankReply.AGREES else ("decline", DECLINE)
            known = Booked(kind, key, order_id, amount, currency, code)
            self.book.add(known)
        return self._say("ch", known)

    async def refund(self, key: str, *, order_id: str, amount: int, currency: str, charge: str) -> str:
        known = self._known(key, "refund", "no-refund")
        paid = self._known(charge, "charge")
        if known is None and (paid is None or paid.amount < amount):
            known = Booked("no-refund", key, order_id, amount, currency, MISSING)
        elif known is None and self._act is not BankReply.BOOKS_NOTHING:
            kind, code = ("refund", "") if self._act is BankReply.AGREES else ("no-refund", GONE)
            known = Booked(kind, key, order_id, amount, currency, code)
            self.book.add(known)
        return self._say("re", known)

    async def statement(self, keys: Sequence[str]) -> Statement:
        """Nobody asks."""
        return (), ()

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
