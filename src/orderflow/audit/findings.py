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
    EVENT_NEVER_RECEIVED = "event-never-received"
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

    `subject` is an order's id, a SKU, a service, or a topic's partition. `where` names the databases (by service, or
    `bank`) or the topic that show it, and `since` the moment from which on it has been so, as far as the rows tell
    (UTC). `event` is the type of the event that is concerned (`PaymentSucceeded`), "" where it is none.
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
_SHOW = "orderflow order show ORDER, and check that it came to its end"

CATALOGUE: Mapping[Kind, KindInfo] = {
    Kind.ORDER_MISSING: KindInfo(
        _LOST, "an accepted order does not exist", f"{_BACKUP}; tell the shop to place the order again"
    ),
    Kind.ORDER_NOT_FINAL: KindInfo(
        _LOST, "the order is not finished, and nothing is under way to finish it", _REPAIR, True
    ),
    Kind.ORDER_UNKNOWN: KindInfo(
        _BALANCE,
        "other services know an order that the order service does not",
        f"{_BACKUP}; if nobody placed the order, pay back what was charged",
    ),
    Kind.ORDER_TOTAL_WRONG: KindInfo(_BALANCE, "the order's total is not the sum of its items", _BACKUP),
    Kind.HISTORY_GAP: KindInfo(_ILLEGAL, "the order's history has a gap in its numbering", _BACKUP),
    Kind.HISTORY_ILLEGAL_STEP: KindInfo(_ILLEGAL, "a step in the order's history is not a legal transition", _BACKUP),
    Kind.HISTORY_END_DIFFERS: KindInfo(
        _ILLEGAL, "the order's status is not the one that its history ends with", _BACKUP
    ),
    Kind.COMPLETED_WITH_REFUND: KindInfo(_ILLEGAL, "a completed order has a refund", _BACKUP),
    Kind.REFUND_STEPS_DIFFER: KindInfo(
        _ILLEGAL, "the order's refund differs from the last refund step in its history", _BACKUP
    ),
    Kind.IDEMPOTENCY_KEY_WRONG: KindInfo(
        _TWICE,
        "an Idempotency-Key points to an order that does not exist, or to the wrong one",
        f"{_BACKUP}; a retry of that request gets the wrong answer",
    ),
    Kind.IDEMPOTENCY_KEY_TWICE: KindInfo(_TWICE, "one order has several Idempotency-Keys", _BACKUP),
    Kind.STUCK_NOT_SHOWN: KindInfo(
        _BLOCKED, "the order is stuck and does not show it, or shows it and is not stuck", _REPAIR, True
    ),
    Kind.REFUND_NOT_SHOWN: KindInfo(_BLOCKED, "the order does not show the state of its refund", _REPAIR, True),
    Kind.PAYMENT_MISSING: KindInfo(_BALANCE, "the order has no payment", _REPAIR, True),
    Kind.PAYMENT_ILLEGAL: KindInfo(
        _ILLEGAL, "the amounts captured and refunded are out of bounds, or contradict the payment's status", _BACKUP
    ),
    Kind.PAYMENT_DIFFERS: KindInfo(
        _BALANCE, "the payment has a different amount, currency or customer than the order", _BACKUP
    ),
    Kind.DOUBLE_CHARGE: KindInfo(
        _TWICE, "the bank charged the order more than once", "Have the bank return all charges but one"
    ),
    Kind.DOUBLE_REFUND: KindInfo(
        _TWICE, "the bank refunded the order more than once", "Have the bank take back all refunds but one"
    ),
    Kind.CHARGE_DIFFERS: KindInfo(
        _TWICE,
        "the bank charged a different amount or currency than the order has",
        "Settle the difference with the bank",
    ),
    Kind.REFUND_DIFFERS: KindInfo(
        _TWICE,
        "the bank refunded a different amount or currency than the order has",
        "Settle the difference with the bank",
    ),
    Kind.REFUND_EXCEEDS_CHARGE: KindInfo(
        _TWICE, "the bank refunded more than it charged", "Have the bank take back the excess"
    ),
    Kind.CHARGE_NOT_AT_BANK: KindInfo(
        _TWICE, "the payment is booked as captured, but the bank has no charge", f"{_BANK}, then collect by hand"
    ),
    Kind.CHARGE_NOT_BOOKED: KindInfo(
        _TWICE, "the bank has a charge that the payment does not know of", _REPAIR, True
    ),
    Kind.CHARGE_SETTLED_WRONG: KindInfo(
        _TWICE,
        "an operator settled the charge, and the bank's book says otherwise",
        "Pay back or collect by hand, then discard the dead letter: orderflow dlt list --order ORDER",
    ),
    Kind.CHARGE_OF_NO_ORDER: KindInfo(
        _BALANCE, "the bank charged for an order that no service knows", "Have the bank return the charge"
    ),
    Kind.REFUND_NOT_AT_BANK: KindInfo(
        _TWICE, "the payment is booked as refunded, but the bank has no refund", f"{_BANK}, then pay back by hand"
    ),
    Kind.REFUND_NOT_BOOKED: KindInfo(
        _TWICE, "the bank has a refund that the payment does not know of", _REPAIR, True
    ),
    Kind.REFUND_MISSING: KindInfo(
        _BALANCE,
        "the order was paid but out of stock, and nothing is under way to return the money",
        _REPAIR,
        True,
    ),
    Kind.REFUND_OVERDUE: KindInfo(
        _LOST, "the order still shows its refund as due, although the payment has settled it", _REPAIR, True
    ),
    Kind.COMPLETED_UNPAID: KindInfo(
        _BALANCE, "a completed order was not paid", f"{_BANK}; collect the money, or have the goods returned"
    ),
    Kind.FAILED_KEEPS_MONEY: KindInfo(
        _BALANCE, "the money of a failed order was kept, and no refund is due", f"{_BANK}, then pay back by hand"
    ),
    Kind.SERVICES_DISAGREE: KindInfo(_BALANCE, "the services disagree about the outcome of the order", _REPAIR, True),
    Kind.INTENT_MISSING: KindInfo(
        _LOST, "the payment waits for the bank, but nothing will ask the bank", _REPAIR, True
    ),
    Kind.INTENT_UNCALLED_FOR: KindInfo(
        _TWICE,
        "the bank is about to be asked for something that the payment does not call for",
        "Stop the payment service and look at the row in `intents`: the bank would act on it",
    ),
    Kind.INTENT_OPEN: KindInfo(
        _LOST,
        "the bank has not answered for a long time",
        "orderflow payment show ORDER, and if the bank never answers: orderflow payment settle ORDER",
    ),
    Kind.STOCK_NEGATIVE: KindInfo(
        _ILLEGAL, "stock is negative", "Count the shelf, then set it: PUT /stock/SKU at the inventory service"
    ),
    Kind.STOCK_UNBALANCED: KindInfo(
        _BALANCE,
        "on hand + reserved differs from what was put in",
        "Count the shelf, then set it: PUT /stock/SKU at the inventory service",
    ),
    Kind.STOCK_NOT_AS_MOVED: KindInfo(
        _BALANCE, "the reserved quantity differs from the sum of the movements", _BACKUP
    ),
    Kind.STOCK_NOT_AS_HELD: KindInfo(
        _BALANCE, "the reserved quantity differs from the sum of the orders' reservations", _BACKUP
    ),
    Kind.STOCK_STEPS_MISSING: KindInfo(_ILLEGAL, "the movements of a SKU have a gap in their numbering", _BACKUP),
    Kind.RESERVATION_TWICE: KindInfo(_TWICE, "the order has more than one reservation", _BACKUP),
    Kind.RESERVATION_NOT_MOVED: KindInfo(_TWICE, "the order's stock movements differ from its reservation", _BACKUP),
    Kind.RESERVATION_TO_RELEASE: KindInfo(_BALANCE, "a failed order still holds stock", _REPAIR, True),
    Kind.COMPLETED_WITHOUT_STOCK: KindInfo(
        _BALANCE,
        "a completed order does not hold exactly what was ordered",
        "Send what is missing, or fetch back what is too much",
    ),
    Kind.NOTIFICATION_MISSING: KindInfo(
        _BALANCE, "the customer was not told the outcome of the order", _REPAIR, True
    ),
    Kind.NOTIFICATION_TWICE: KindInfo(
        _TWICE, "the customer was told the same outcome more than once", "Tell the customer, if it matters"
    ),
    Kind.NOTIFICATION_WRONG: KindInfo(
        _BALANCE, "the customer was told something that did not happen", "Tell the customer what is true"
    ),
    Kind.EFFECT_WITHOUT_INBOX_ROW: KindInfo(
        _TWICE,
        "an event took effect, but the inbox does not know it: if it comes again, it is handled again",
        _BACKUP,
    ),
    Kind.INBOX_ROW_WITHOUT_EFFECT: KindInfo(
        _LOST, "the inbox says that an event was handled, but its effect is missing", _REPAIR, True
    ),
    Kind.EVENT_NEVER_RECEIVED: KindInfo(
        _LOST,
        "an event was sent, but a service outside of the saga that reads it never received it",
        _REPAIR,
        True,
    ),
    Kind.PARKED_WITHOUT_INBOX_ROW: KindInfo(
        _TWICE, "an event is parked, but the inbox does not say so: if it comes again, it is taken for new", _BACKUP
    ),
    Kind.PARKED_EVENT_MISSING: KindInfo(
        _LOST, "the inbox says that an event is parked, but it is gone, so it will never be retried", _REPAIR, True
    ),
    Kind.HELD_BEHIND_NOTHING: KindInfo(
        _BLOCKED,
        "events are held behind a failed event that does not exist, so they wait for ever",
        "orderflow dlt list --state all --order ORDER, then: orderflow dlt discard EVENT, and publish it again",
    ),
    Kind.SEVERAL_HEADS: KindInfo(
        _BLOCKED,
        "several events of one order are retried at one consumer, so later ones overtake the first",
        "orderflow dlt list --state all --order ORDER, then: orderflow dlt rehearse EVENT",
    ),
    Kind.EVENT_NEVER_SENT: KindInfo(
        _LOST, "a decision is stored, but its event is neither in the outbox nor on the topic", _REPAIR, True
    ),
    Kind.EVENT_UNSENT: KindInfo(
        _LOST, "events have been in the outbox for a long time", "orderflow outbox status, and: orderflow health"
    ),
    Kind.SEQUENCE_GAP: KindInfo(_LOST, "the numbering of an order's events has a gap", _REPAIR, True),
    Kind.SEQUENCE_TWICE: KindInfo(_TWICE, "two events of an order have the same number", _BACKUP),
    Kind.WORK_LEFT: KindInfo(
        _LOST,
        "a service still has work under way, although everything is at rest",
        "orderflow health, and: orderflow lag",
    ),
    Kind.RECORD_MISSING: KindInfo(
        _LOST, "the outbox says that an event was sent, but the topic does not have it", _REPUBLISH, True
    ),
    Kind.RECORD_FORGED: KindInfo(
        _ILLEGAL,
        "a record on the topic comes from no service's outbox",
        "Find out who can write to the topic; see what it caused: orderflow order show ORDER",
    ),
    Kind.RECORD_ALTERED: KindInfo(
        _TWICE,
        "a record on the topic differs from the event with the same id",
        "Find out who can write to the topic; consumers acted on the record that came first",
    ),
    Kind.RECORDS_OUT_OF_ORDER: KindInfo(_BLOCKED, "events of one order are on the topic in the wrong order", _SHOW),
    Kind.DEAD_LETTER_MISSING: KindInfo(
        _BLOCKED,
        "an event was given up, but its dead letter is not on the topic",
        "orderflow dlt list --order ORDER: the service has the event",
    ),
    Kind.DEAD_LETTER_UNKNOWN: KindInfo(
        _BLOCKED,
        "the topic has a dead letter for an event that no service gave up",
        "Find out who can write to the topic",
    ),
    Kind.OFFSET_OUT_OF_RANGE: KindInfo(
        _LOST,
        "a consumer's offset is past the end of its topic, or before its beginning",
        "orderflow expired list; if the topic was recreated or records expired: orderflow outbox republish",
    ),
}
