"""The books: business state as plain values, wherever it was read from. Amounts are in minor units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Line = tuple[str, int]
"""A SKU and a quantity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """The order as its service has it. `stuck` maps a consumer to `parked` or `dead`, as shown to callers."""

    status: str
    version: int
    event: str
    currency: str
    total: int
    lines: tuple[Line, ...]
    refund: str = "none"
    stuck: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One transition of the order's history."""

    version: int
    before: str
    event: str
    after: str


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


@dataclass(frozen=True, slots=True)
class ReservationRow:
    """What inventory decided for the order: `RESERVED` with its lines, or `REJECTED` with none."""

    status: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A message that waits. `attempts` 0: held behind the failed head of its key. `state`: parked or dead."""

    service: str
    consumer: str
    event_type: str
    state: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderBooks:
    """All that the four databases and the bank have about one order."""

    order_id: str
    order: OrderRow | None = None
    history: tuple[Step, ...] = ()
    payment: PaymentRow | None = None
    bank: tuple[BankEntry, ...] = ()
    reservations: tuple[ReservationRow, ...] = ()
    movements: tuple[Line, ...] = ()
    notifications: tuple[str, ...] = ()
    parked: tuple[ParkedRow, ...] = ()
    intents: tuple[str, ...] = ()

    @property
    def is_stuck(self) -> bool:
        """An operator has to act: something of this order was given up, or the bank refuses the refund."""
        is_refused = self.payment is not None and self.payment.is_refused
        return is_refused or any(row.state == "dead" for row in self.parked)

    @property
    def is_refunded_by_word(self) -> bool:
        """That the money is back is what an operator says; the bank's book has no refund."""
        by_operator = self.payment is not None and self.payment.refund_by_operator
        return by_operator and not any(entry.kind == "refund" for entry in self.bank)


@dataclass(frozen=True, slots=True, kw_only=True)
class StockBooks:
    """One SKU. `adjusted` is the sum of what was put in or taken out by people, `moved` the sum of what orders
    took from on hand, `held` the sum over the reservations' lines.
    """

    sku: str
    on_hand: int
    reserved: int
    adjusted: int
    moved: int
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBooks:
    """What is under way in one service. `lag` maps a consumer group to the records it has not settled."""

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
