"""What an audit can find: every kind of corruption, what it breaks, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum


class Promise(IntEnum):
    """The five promises, by number."""

    NOTHING_LOST = 1
    NOTHING_TWICE = 2
    NOTHING_ILLEGAL = 3
    NOTHING_BLOCKED = 4
    BOOKS_BALANCE = 5


class Kind(StrEnum):
    """A class of corruption. `CATALOGUE` says what each is."""

    # The order service's rows.
    ORDER_MISSING = "order-missing"
    ORDER_NOT_FINAL = "order-not-final"
    ORDER_UNKNOWN = "order-unknown"
    ORDER_TOTAL_WRONG = "order-total-wrong"
    HISTORY_GAP = "history-gap"
    HISTORY_ILLEGAL_STEP = "history-illegal-step"
    HISTORY_END_DIFFERS = "history-end-differs"
    COMPLETED_WITH_REFUND = "completed-with-refund"
    REFUND_STEPS_DIFFER = "refund-steps-differ"
    IDEMPOTENCY_KEY_WRONG = "idempotency-key-wrong"
    IDEMPOTENCY_KEY_TWICE = "idempotency-key-twice"
    STUCK_NOT_SHOWN = "stuck-not-shown"
    REFUND_NOT_SHOWN = "refund-not-shown"
    # The payment's rows and the bank's book.
    PAYMENT_MISSING = "payment-missing"
    PAYMENT_ILLEGAL = "payment-illegal"
    PAYMENT_DIFFERS = "payment-differs"
    DOUBLE_CHARGE = "double-charge"
    DOUBLE_REFUND = "double-refund"
    CHARGE_DIFFERS = "charge-differs"
    REFUND_DIFFERS = "refund-differs"
    REFUND_EXCEEDS_CHARGE = "refund-exceeds-charge"
    CHARGE_NOT_AT_BANK = "charge-not-at-bank"
    CHARGE_NOT_BOOKED = "charge-not-booked"
    CHARGE_SETTLED_WRONG = "charge-settled-wrong"
    CHARGE_OF_NO_ORDER = "charge-of-no-order"
    REFUND_NOT_AT_BANK = "refund-not-at-bank"
    REFUND_NOT_BOOKED = "refund-not-booked"
    REFUND_MISSING = "refund-missing"
    REFUND_OVERDUE = "refund-overdue"
    COMPLETED_UNPAID = "completed-unpaid"
    FAILED_KEEPS_MONEY = "failed-keeps-money"
    SERVICES_DISAGREE = "services-disagree"
    INTENT_MISSING = "intent-missing"
    INTENT_UNCALLED_FOR = "intent-uncalled-for"
    INTENT_OPEN = "intent-open"
    # Stock.
    STOCK_NEGATIVE = "stock-negative"
    STOCK_UNBALANCED = "stock-unbalanced"
    STOCK_NOT_AS_MOVED = "stock-not-as-moved"
    STOCK_NOT_AS_HELD = "stock-not-as-held"
    STOCK_STEPS_MISSING = "stock-steps-missing"
    RESERVATION_TWICE = "reservation-twice"
    RESERVATION_NOT_MOVED = "reservation-not-moved"
    RESERVATION_TO_RELEASE = "reservation-to-release"
    COMPLETED_WITHOUT_STOCK = "completed-without-stock"
    # Notifications.
    NOTIFICATION_MISSING = "notification-missing"
    NOTIFICATION_TWICE = "notification-twice"
    NOTIFICATION_WRONG = "notification-wrong"
    # The inbox and what waits.
    EFFECT_WITHOUT_INBOX_ROW = "effect-without-inbox-row"
    INBOX_ROW_WITHOUT_EFFECT = "inbox-row-without-effect"
    PARKED_WITHOUT_INBOX_ROW = "parked-without-inbox-row"
    PARKED_EVENT_MISSING = "parked-event-missing"
    HELD_BEHIND_NOTHING = "held-behind-nothing"
    SEVERAL_HEADS = "several-heads"
    # The outbox.
    EVENT_NEVER_SENT = "event-never-sent"
    EVENT_UNSENT = "event-unsent"
    SEQUENCE_GAP = "sequence-gap"
    SEQUENCE_TWICE = "sequence-twice"
    WORK_LEFT = "work-left"
    # The topics.
    RECORD_MISSING = "record-missing"
    RECORD_FORGED = "record-forged"
    RECORD_ALTERED = "record-altered"
    RECORDS_OUT_OF_ORDER = "records-out-of-order"
    DEAD_LETTER_MISSING = "dead-letter-missing"
    DEAD_LETTER_UNKNOWN = "dead-letter-unknown"
    OFFSET_OUT_OF_RANGE = "offset-out-of-range"


@dataclass(frozen=True, slots=True)
class KindInfo:
    """What a kind breaks (`promise`), what it is, and what to do about it. `repair`: `orderflow audit --repair` can
    have the owning service heal it by ordinary events.
    """

    promise: Promise
    what: str
    remedy: str
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be.

    `subject` is an order's id, a SKU, a service, or a topic's partition. `where` names the databases (`order`,
    `payment`, `inventory`, `notification`, `bank`) or the topic that show it, and `since` the moment from which on it
    has been so, as far as the rows tell (UTC). `event` is the type of the event that is concerned
    (`PaymentSucceeded`), "" where it is none.
    """

    kind: Kind
    subject: str
    expected: str
    found: str
    where: str = ""
    since: datetime | None = None
    event: str = ""

    @property
    def promise(self) -> Promise:
        return CATALOGUE[self.kind].promise

    @property
    def what(self) -> str:
        return CATALOGUE[self.kind].what

    def __str__(self) -> str:
        return (
            f"promise {int(self.promise)}, {self.kind}, {self.subject}: {self.what} "
            f"(expected {self.expected}, found {self.found})"
        )


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """All findings of one kind. `since` is the earliest moment that is known, `subjects` has each subject once."""

    kind: Kind
    findings: tuple[Finding, ...]

    @property
    def info(self) -> KindInfo:
        return CATALOGUE[self.kind]

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(finding.subject for finding in self.findings))

    @property
    def where(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(finding.where for finding in self.findings if finding.where))

    @property
    def since(self) -> datetime | None:
        return min((finding.since for finding in self.findings if finding.since), default=None)

    @property
    def remedy(self) -> str:
        """What to do. ORDER becomes the first subject that is an id: any other text may come from anybody, and this
        is to be typed.
        """
        first = next((subject for subject in self.subjects if ID.fullmatch(subject)), "ORDER")
        return self.info.remedy.replace("ORDER", first)


def grouped(findings: Iterable[Finding]) -> list[FindingGroup]:
    """By kind, in the order of the catalogue."""
    by_kind: dict[Kind, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    return [FindingGroup(kind, tuple(by_kind[kind])) for kind in Kind if kind in by_kind]


@dataclass(slots=True)
class Report:
    """What was looked at and what was found. At most `KEPT` findings are kept; `count` is how many there were.

    `stuck` counts orders that need an operator, `waiting` events as `core.inbox.Waits` says. `refunded_by_word`
    counts the orders whose money is back by an operator's word: the bank's book has no refund. `under_way` counts the
    orders that may yet come to their end by themselves, of which nothing is told but what holds at every moment;
    `judged` those that were looked at one by one (`suspects`), `records` those read from the topics. `took_s` is how
    long the orders took, without waiting and without the topics, in seconds.
    """

    at_rest: bool
    orders: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    stuck: int = 0
    refunded_by_word: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)
    count: int = 0
    findings: list[Finding] = field(default_factory=list)
    under_way: int = 0
    judged: int = 0
    records: int = 0
    took_s: float = 0.0
    suspects: frozenset[str] = frozenset()

    def add(self, findings: Iterable[Finding]) -> None:
        """Keep them, as far as there is room."""
        for finding in findings:
            self.count += 1
            if len(self.findings) < KEPT:
                self.findings.append(finding)


KEPT = 1_000
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


_LOST, _TWICE, _ILLEGAL, _BLOCKED, _BALANCE = Promise
_REPAIR = "orderflow audit --repair"
_BACKUP = "Compare with a backup: rows were changed by hand, or lost"
_REPUBLISH = "orderflow outbox republish --order ORDER"
_BANK = "Ask the bank for its statement"
_SHOW = "orderflow order show ORDER, and look whether it came to its end"

CATALOGUE: Mapping[Kind, KindInfo] = {
    Kind.ORDER_MISSING: KindInfo(
        _LOST, "an order that was accepted does not exist", f"{_BACKUP}; tell the shop to place the order again"
    ),
    Kind.ORDER_NOT_FINAL: KindInfo(
        _LOST, "the order has not reached its end, and nothing is under way that would take it there", _REPAIR, True
    ),
    Kind.ORDER_UNKNOWN: KindInfo(
        _BALANCE,
        "other services know an order that the order service does not have",
        f"{_BACKUP}; if nobody placed the order, pay back what was charged",
    ),
    Kind.ORDER_TOTAL_WRONG: KindInfo(_BALANCE, "the order's total is not the sum of its items", _BACKUP),
    Kind.HISTORY_GAP: KindInfo(_ILLEGAL, "the order's history is not densely numbered", _BACKUP),
    Kind.HISTORY_ILLEGAL_STEP: KindInfo(_ILLEGAL, "a step of the order's history is no transition", _BACKUP),
    Kind.HISTORY_END_DIFFERS: KindInfo(_ILLEGAL, "the order is not as its history ends", _BACKUP),
    Kind.COMPLETED_WITH_REFUND: KindInfo(_ILLEGAL, "a completed order has a refund", _BACKUP),
    Kind.REFUND_STEPS_DIFFER: KindInfo(_ILLEGAL, "the order's refund is not as the steps of it end", _BACKUP),
    Kind.IDEMPOTENCY_KEY_WRONG: KindInfo(
        _TWICE,
        "an Idempotency-Key answers with an order that does not exist, or with another one than it is of",
        f"{_BACKUP}; a retry of that request is answered wrongly",
    ),
    Kind.IDEMPOTENCY_KEY_TWICE: KindInfo(_TWICE, "one order has several Idempotency-Keys", _BACKUP),
    Kind.STUCK_NOT_SHOWN: KindInfo(
        _BLOCKED, "the order does not say where it is stuck, or says so and is not", _REPAIR, True
    ),
    Kind.REFUND_NOT_SHOWN: KindInfo(_BLOCKED, "the order does not say how its refund stands", _REPAIR, True),
    Kind.PAYMENT_MISSING: KindInfo(_BALANCE, "an order without a payment", _REPAIR, True),
    Kind.PAYMENT_ILLEGAL: KindInfo(
        _ILLEGAL, "captured and refunded are out of bounds, or not what the payment's status says", _BACKUP
    ),
    Kind.PAYMENT_DIFFERS: KindInfo(
        _BALANCE, "the payment is about another amount, currency or customer than the order", _BACKUP
    ),
    Kind.DOUBLE_CHARGE: KindInfo(
        _TWICE, "the bank has charged the order more than once", "Have the bank return all charges but one"
    ),
    Kind.DOUBLE_REFUND: KindInfo(
        _TWICE, "the bank has refunded the order more than once", "Have the bank take back all refunds but one"
    ),
    Kind.CHARGE_DIFFERS: KindInfo(
        _TWICE, "the bank has charged another amount or currency than the order has", "Settle the rest with the bank"
    ),
    Kind.REFUND_DIFFERS: KindInfo(
        _TWICE, "the bank has refunded another amount or currency than the order has", "Settle the rest with the bank"
    ),
    Kind.REFUND_EXCEEDS_CHARGE: KindInfo(
        _TWICE, "the bank has refunded more than it has charged", "Have the bank take back what is too much"
    ),
    Kind.CHARGE_NOT_AT_BANK: KindInfo(
        _TWICE, "the payment says that it was captured, and the bank has no charge", f"{_BANK}, then collect by hand"
    ),
    Kind.CHARGE_NOT_BOOKED: KindInfo(
        _TWICE, "the bank has a charge of which the payment does not know", _REPAIR, True
    ),
    Kind.CHARGE_SETTLED_WRONG: KindInfo(
        _TWICE,
        "an operator settled the charge otherwise than the bank has it",
        "Pay back or collect by hand, then discard the dead letter: orderflow dlt list --order ORDER",
    ),
    Kind.CHARGE_OF_NO_ORDER: KindInfo(
        _BALANCE, "the bank has charged for an order that no service knows", "Have the bank return the charge"
    ),
    Kind.REFUND_NOT_AT_BANK: KindInfo(
        _TWICE, "the payment says that it was refunded, and the bank has no refund", f"{_BANK}, then pay back by hand"
    ),
    Kind.REFUND_NOT_BOOKED: KindInfo(
        _TWICE, "the bank has a refund of which the payment does not know", _REPAIR, True
    ),
    Kind.REFUND_MISSING: KindInfo(
        _BALANCE,
        "the order failed for want of stock, its money was captured, and nothing is under way to return it",
        _REPAIR,
        True,
    ),
    Kind.REFUND_OVERDUE: KindInfo(
        _LOST, "the order's refund is still due, although the payment is done with it", _REPAIR, True
    ),
    Kind.COMPLETED_UNPAID: KindInfo(
        _BALANCE, "a completed order is not paid", f"{_BANK}; collect the money, or have the goods returned"
    ),
    Kind.FAILED_KEEPS_MONEY: KindInfo(
        _BALANCE, "a failed order keeps money, and shows no refund as due", f"{_BANK}, then pay back by hand"
    ),
    Kind.SERVICES_DISAGREE: KindInfo(_BALANCE, "the services disagree on what became of the order", _REPAIR, True),
    Kind.INTENT_MISSING: KindInfo(
        _LOST, "the payment waits for the bank, and nobody is going to ask it", _REPAIR, True
    ),
    Kind.INTENT_UNCALLED_FOR: KindInfo(
        _TWICE,
        "the bank is going to be asked for what the payment does not call for",
        "Stop the payment service and look at the row of `intents`: the bank acts on it",
    ),
    Kind.INTENT_OPEN: KindInfo(
        _LOST,
        "the bank has not been heard of for long",
        "orderflow payment show ORDER, and if the bank never answers: orderflow payment settle ORDER",
    ),
    Kind.STOCK_NEGATIVE: KindInfo(
        _ILLEGAL, "stock is negative", "Count the shelf, then set it: PUT /stock/SKU at the inventory service"
    ),
    Kind.STOCK_UNBALANCED: KindInfo(
        _BALANCE,
        "on hand + reserved is not what was put in",
        "Count the shelf, then set it: PUT /stock/SKU at the inventory service",
    ),
    Kind.STOCK_NOT_AS_MOVED: KindInfo(_BALANCE, "what is reserved is not what the movements add up to", _BACKUP),
    Kind.STOCK_NOT_AS_HELD: KindInfo(_BALANCE, "what is reserved is not what the orders' reservations hold", _BACKUP),
    Kind.STOCK_STEPS_MISSING: KindInfo(_ILLEGAL, "the movements of a SKU are not densely numbered", _BACKUP),
    Kind.RESERVATION_TWICE: KindInfo(_TWICE, "the order has more than one reservation", _BACKUP),
    Kind.RESERVATION_NOT_MOVED: KindInfo(
        _TWICE, "what was moved in the stock is not what the order's reservation says", _BACKUP
    ),
    Kind.RESERVATION_TO_RELEASE: KindInfo(_BALANCE, "a failed order holds stock", _REPAIR, True),
    Kind.COMPLETED_WITHOUT_STOCK: KindInfo(
        _BALANCE, "a completed order does not hold exactly what was ordered", "Send or fetch back what is missing"
    ),
    Kind.NOTIFICATION_MISSING: KindInfo(
        _BALANCE, "the customer was not told what became of the order", _REPAIR, True
    ),
    Kind.NOTIFICATION_TWICE: KindInfo(
        _TWICE, "the customer was told of one outcome more than once", "Tell the customer, if it matters"
    ),
    Kind.NOTIFICATION_WRONG: KindInfo(
        _BALANCE, "the customer was told what did not happen", "Tell the customer how it is"
    ),
    Kind.EFFECT_WITHOUT_INBOX_ROW: KindInfo(
        _TWICE,
        "an event has had its effect, and the inbox does not know it: if it comes again, it is handled again",
        _BACKUP,
    ),
    Kind.INBOX_ROW_WITHOUT_EFFECT: KindInfo(
        _LOST, "the inbox says that an event was handled, and its effect is not there", _REPAIR, True
    ),
    Kind.PARKED_WITHOUT_INBOX_ROW: KindInfo(
        _TWICE, "an event waits, and the inbox does not say so: if it comes again, it passes by", _BACKUP
    ),
    Kind.PARKED_EVENT_MISSING: KindInfo(
        _LOST, "the inbox says that an event waits, and it is not there: it is never tried again", _REPAIR, True
    ),
    Kind.HELD_BEHIND_NOTHING: KindInfo(
        _BLOCKED,
        "events are held behind an event that failed, and there is none: they wait for ever",
        "orderflow dlt list --state all --order ORDER, then: orderflow dlt discard EVENT, and publish it again",
    ),
    Kind.SEVERAL_HEADS: KindInfo(
        _BLOCKED,
        "several events of one order are tried again at one consumer, and the later ones overtake the first",
        "orderflow dlt list --state all --order ORDER, then: orderflow dlt rehearse EVENT",
    ),
    Kind.EVENT_NEVER_SENT: KindInfo(
        _LOST, "a decision is stored, and its event is neither in the outbox nor on the topic", _REPAIR, True
    ),
    Kind.EVENT_UNSENT: KindInfo(
        _LOST, "events have waited in the outbox for long", "orderflow outbox status, and: orderflow health"
    ),
    Kind.SEQUENCE_GAP: KindInfo(_LOST, "events are missing in the numbering of an order's events", _REPAIR, True),
    Kind.SEQUENCE_TWICE: KindInfo(_TWICE, "two events of an order have one number", _BACKUP),
    Kind.WORK_LEFT: KindInfo(
        _LOST, "something is under way at a service, although all is at rest", "orderflow health, and: orderflow lag"
    ),
    Kind.RECORD_MISSING: KindInfo(
        _LOST, "the outbox says that an event was sent, and the topic does not have it", _REPUBLISH, True
    ),
    Kind.RECORD_FORGED: KindInfo(
        _ILLEGAL,
        "a record on the topic is in no service's outbox",
        "Find out who can write to the topic; what it has caused shows in the order: orderflow order show ORDER",
    ),
    Kind.RECORD_ALTERED: KindInfo(
        _TWICE,
        "a record on the topic differs from the event of the same id",
        "Find out who can write to the topic; consumers acted on the one that came first",
    ),
    Kind.RECORDS_OUT_OF_ORDER: KindInfo(
        _BLOCKED, "events of one order stand on the topic in another order than they were made in", _SHOW
    ),
    Kind.DEAD_LETTER_MISSING: KindInfo(
        _BLOCKED,
        "an event was given up, and its dead letter is not on the topic",
        "orderflow dlt list --order ORDER: the service has the event",
    ),
    Kind.DEAD_LETTER_UNKNOWN: KindInfo(
        _BLOCKED, "a dead letter of an event that no service has given up", "Find out who can write to the topic"
    ),
    Kind.OFFSET_OUT_OF_RANGE: KindInfo(
        _LOST,
        "a consumer stands behind the end of its topic, or before its beginning",
        "orderflow expired list; the topic was made anew, or records expired: orderflow outbox republish",
    ),
}
