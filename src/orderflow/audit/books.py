"""The books: business state as plain values, wherever it was read from. Amounts are in minor units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from orderflow.registry import SAGA

Line = tuple[str, int]
"""A SKU and a quantity."""


@dataclass(frozen=True, slots=True)
class RefundStepRow:
    """One step of an order's refund: the event `cause` of type `event` made it `refund`."""

    refund: str
    event: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """The order as its service has it. `stuck` maps a consumer to `parked` or `dead`, as shown to callers.

    `items_total` is what the items add up to, `refund_steps` the refund's states in order; None where nobody has
    looked. `early` is the event of inventory that waits for the payment's. `since` is when it last changed, UTC.
    """

    status: str
    version: int
    event: str
    currency: str
    total: int
    lines: tuple[Line, ...]
    refund: str = "none"
    stuck: Mapping[str, str] = field(default_factory=dict)
    customer: str = ""
    items_total: int | None = None
    refund_steps: tuple[RefundStepRow, ...] | None = None
    early: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class OrderStepRow:
    """One transition of the order's history. `cause` is the id of the event, "" where nobody has looked."""

    version: int
    before: str
    event: str
    after: str
    cause: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRow:
    """The payment as the payment service has it. `by_operator`: the charge was settled on an operator's word,
    `refund_by_operator`: the refund was.
    """

    status: str
    currency: str
    amount: int
    captured: int
    refunded: int
    by_operator: bool = False
    refund_by_operator: bool = False
    customer: str = ""
    since: datetime | None = None

    @property
    def is_refused(self) -> bool:
        """The bank refuses the refund for good."""
        return self.status == "REFUND_REFUSED"

    @property
    def is_void(self) -> bool:
        """There is no charge, an operator says, whatever was said before; the order may not have heard of it yet."""
        return self.status == "DECLINED" and self.by_operator


@dataclass(frozen=True, slots=True)
class BankEntry:
    """One movement in the bank's own book. `kind` is `charge` or `refund`."""

    kind: str
    key: str
    currency: str
    amount: int
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReservationRow:
    """What inventory decided for the order: `RESERVED` with its lines, or `REJECTED` with none."""

    status: str
    lines: tuple[Line, ...]
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A message that waits. `attempts` 0: held behind the failed head of its key. `state`: parked or dead.
    `identity` is its name in the inbox, `topic` where it came from, "" where nobody has looked.
    """

    service: str
    consumer: str
    event_type: str
    state: str
    attempts: int
    identity: str = ""
    since: datetime | None = None
    topic: str = ""


@dataclass(frozen=True, slots=True)
class InboxRow:
    """What a consumer's inbox knows of one message of the order.

    `identity` is the type of an event that an order sees once, else the event's id; `state` is that of
    `core.inbox.InboxState` in lower case.
    """

    service: str
    consumer: str
    identity: str
    event_id: str
    state: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An event of the order in a service's outbox. `event` is its type without prefix and version, `source` who has
    numbered it: the service itself, or its notices of what is stuck. `cause` is the id of the message that it was
    made from, "" where it names none.
    """

    service: str
    source: str
    topic: str
    event: str
    sequence: int
    event_id: str
    is_sent: bool
    since: datetime | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """A consumer of a service outside of the saga, and the types (`orderflow.StockReserved`) of the events that it
    handles and that a key sees once, with the topics that they are on. `late`: those that it has come to handle while
    it was at work, and since when (UTC); what was written before it may have passed over.
    """

    service: str
    consumer: str
    types: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    late: tuple[tuple[str, datetime], ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """How the order went through the services' inboxes and outboxes.

    `emitted` counts the events that each source of each service has numbered, `ledgers` names the services whose
    outbox has kept everything since the order was placed, and `listeners` are those that have listened since.
    """

    inbox: tuple[InboxRow, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    emitted: Mapping[tuple[str, str], int] = field(default_factory=dict)
    ledgers: frozenset[str] = frozenset()
    listeners: tuple[Listener, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderBooks:
    """All that the databases of the services and of the bank have about one order.

    `keys` are its Idempotency-Keys, each with the order's id that it answers with. `passage` is None where nobody has
    looked. `intents_overdue`: the bank has not answered for long.
    """

    order_id: str
    order: OrderRow | None = None
    history: tuple[OrderStepRow, ...] = ()
    payment: PaymentRow | None = None
    bank: tuple[BankEntry, ...] = ()
    reservations: tuple[ReservationRow, ...] = ()
    movements: tuple[Line, ...] = ()
    notifications: tuple[str, ...] = ()
    parked: tuple[ParkedRow, ...] = ()
    intents: tuple[str, ...] = ()
    intents_overdue: bool = False
    keys: tuple[tuple[str, str], ...] = ()
    passage: Passage | None = None

    @property
    def is_under_way(self) -> bool:
        """Something of the order is going to be done without anybody's doing."""
        unsent = self.passage is not None and any(not row.is_sent for row in self.passage.outbox)
        retrying = any(row.state == "parked" and row.attempts for row in self.parked)
        return unsent or retrying or bool(self.intents)

    @property
    def is_refund_refused(self) -> bool:
        """The bank refuses to give the money back."""
        return self.payment is not None and self.payment.is_refused

    @property
    def is_stuck(self) -> bool:
        """An operator has to act: something of this order was given up, or the bank refuses the refund."""
        return self.is_refund_refused or any(row.state == "dead" for row in self.parked)

    @property
    def is_halted(self) -> bool:
        """Stuck at a service of the saga, so that the order cannot come to its end. The others take it no further."""
        return self.is_refund_refused or any(row.state == "dead" and row.service in SAGA for row in self.parked)

    @property
    def is_refunded_by_word(self) -> bool:
        """That the money is back is what an operator says; the bank's book has no refund."""
        by_operator = self.payment is not None and self.payment.refund_by_operator
        return by_operator and not any(entry.kind == "refund" for entry in self.bank)


@dataclass(frozen=True, slots=True, kw_only=True)
class StockBooks:
    """One SKU. `adjusted` is the sum of what was put in or taken out by people, `moved` the sum of what orders
    took from on hand, `held` the sum over the reservations' lines. `version` is the number of its last change,
    `steps` how many movements it has.
    """

    sku: str
    on_hand: int
    reserved: int
    adjusted: int
    moved: int
    held: int
    version: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBooks:
    """What is under way in one service. `lag` maps a consumer group to the records it has still to read."""

    service: str
    unsent: int = 0
    open_intents: int = 0
    retrying: int = 0
    lag: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_at_rest(self) -> bool:
        return not self.under_way

    @property
    def under_way(self) -> str:
        """In words; "" when nothing is."""
        counts = {"unsent": self.unsent, "asked": self.open_intents, "retrying": self.retrying}
        behind = {f"{consumer} behind": lag for consumer, lag in self.lag.items()}
        return ", ".join(f"{count} {what}" for what, count in {**counts, **behind}.items() if count)


@dataclass(slots=True)
class Books:
    """Everything, in memory: for simulations and tests."""

    orders: list[OrderBooks] = field(default_factory=list)
    stock: list[StockBooks] = field(default_factory=list)
    services: list[ServiceBooks] = field(default_factory=list)


@dataclass(slots=True)
class OrderDraft:
    """See `OrderBooks`. `stuck` is put on the order at the end: the two may be found in any order."""

    order: OrderRow | None = None
    stuck: dict[str, str] = field(default_factory=dict)
    history: list[OrderStepRow] = field(default_factory=list)
    payment: PaymentRow | None = None
    bank: list[BankEntry] = field(default_factory=list)
    reservations: list[ReservationRow] = field(default_factory=list)
    movements: list[Line] = field(default_factory=list)
    notifications: list[str] = field(default_factory=list)
    parked: list[ParkedRow] = field(default_factory=list)
    intents: list[str] = field(default_factory=list)
    intents_overdue: bool = False
    keys: list[tuple[str, str]] = field(default_factory=list)
    refund_steps: list[RefundStepRow] = field(default_factory=list)
    inbox: list[InboxRow] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    emitted: dict[tuple[str, str], int] = field(default_factory=dict)

    def finish(
        self, order_id: str, ledgers: frozenset[str] | None = None, listeners: tuple[Listener, ...] = ()
    ) -> OrderBooks:
        """The books, in one order however they were read, so that two looks can be compared.

        `ledgers` and `listeners` as in `Passage`; None: nobody has looked at inbox and outbox.
        """
        order, passage = self.order, None
        if order is not None and self.stuck:
            order = replace(order, stuck=self.stuck)
        if ledgers is not None:
            inbox = sorted(self.inbox, key=lambda row: (row.service, row.consumer, row.identity))
            outbox = sorted(self.outbox, key=lambda row: (row.service, row.sequence, row.event_id))
            passage = Passage(tuple(inbox), tuple(outbox), self.emitted, ledgers, listeners)
            order = order and replace(order, refund_steps=tuple(self.refund_steps))
        return OrderBooks(
            order_id=order_id,
            order=order,
            history=tuple(sorted(self.history, key=lambda step: step.version)),
            payment=self.payment,
            bank=tuple(sorted(self.bank, key=lambda entry: (entry.kind, entry.key))),
            reservations=tuple(self.reservations),
            movements=tuple(sorted(self.movements)),
            notifications=tuple(sorted(self.notifications)),
            parked=tuple(sorted(self.parked, key=lambda row: (row.service, row.consumer))),
            intents=tuple(sorted(self.intents)),
            intents_overdue=self.intents_overdue,
            keys=tuple(sorted(self.keys)),
            passage=passage,
        )
