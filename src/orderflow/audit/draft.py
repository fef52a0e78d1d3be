"""The books of one order while they are put together from several places."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from orderflow.audit.books import (
    BankEntry,
    InboxRow,
    Line,
    OrderBooks,
    OrderRow,
    OutboxRow,
    ParkedRow,
    Passage,
    PaymentRow,
    RefundStep,
    ReservationRow,
    Step,
)


@dataclass(slots=True)
class OrderDraft:
    """See `OrderBooks`. `stuck` is put on the order at the end: the two may be found in any order."""

    order: OrderRow | None = None
    stuck: dict[str, str] = field(default_factory=dict)
    history: list[Step] = field(default_factory=list)
    payment: PaymentRow | None = None
    bank: list[BankEntry] = field(default_factory=list)
    reservations: list[ReservationRow] = field(default_factory=list)
    movements: list[Line] = field(default_factory=list)
    notifications: list[str] = field(default_factory=list)
    parked: list[ParkedRow] = field(default_factory=list)
    intents: list[str] = field(default_factory=list)
    intents_overdue: bool = False
    keys: list[tuple[str, str]] = field(default_factory=list)
    refund_steps: list[RefundStep] = field(default_factory=list)
    inbox: list[InboxRow] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    emitted: dict[str, int] = field(default_factory=dict)

    def finish(self, order_id: str, ledgers: frozenset[str] | None = None) -> OrderBooks:
        """The books, in one order however they were read, so that two looks can be compared.

        `ledgers` as in `Passage`; None: nobody has looked at inbox and outbox.
        """
        order, passage = self.order, None
        if order is not None and self.stuck:
            order = replace(order, stuck=self.stuck)
        if ledgers is not None:
            inbox = sorted(self.inbox, key=lambda row: (row.service, row.consumer, row.identity))
            outbox = sorted(self.outbox, key=lambda row: (row.service, row.sequence, row.event_id))
            passage = Passage(tuple(inbox), tuple(outbox), self.emitted, ledgers)
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
