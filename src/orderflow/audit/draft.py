"""The books of one order while they are put together from several places."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from orderflow.audit.books import (
    BankEntry,
    Line,
    OrderBooks,
    OrderRow,
    ParkedRow,
    PaymentRow,
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

    def finish(self, order_id: str) -> OrderBooks:
        """The books, with the history in order."""
        order = replace(self.order, stuck=self.stuck) if self.order is not None and self.stuck else self.order
        return OrderBooks(
            order_id=order_id,
            order=order,
            history=tuple(sorted(self.history, key=lambda step: step.version)),
            payment=self.payment,
            bank=tuple(self.bank),
            reservations=tuple(self.reservations),
            movements=tuple(self.movements),
            notifications=tuple(self.notifications),
            parked=tuple(self.parked),
            intents=tuple(self.intents),
        )
