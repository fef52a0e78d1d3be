"""What is counted and measured while orders are placed and followed."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

COMPLETED = "COMPLETED"
FAILED = "FAILED"


@dataclass(slots=True)
class Followed:
    """An order that was accepted. `started` is on the monotonic clock, in s; `status` None: not final yet."""

    kind: str
    started: float
    status: str | None = None
    reason: str = ""
    refund: str = "none"


@dataclass(slots=True)
class Tally:
    """`accepted_s` and `final_s` are latencies: the first of all orders, the second of those in the sample."""

    asked: int
    began: float = 0.0
    placing_ended: float = 0.0
    ended: float = 0.0
    interrupted: bool = False
    lost_contact: bool = False
    time_is_up: bool = False
    orders: dict[str, Followed] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    accepted_s: array[float] = field(default_factory=lambda: array("d"))
    final_s: array[float] = field(default_factory=lambda: array("d"))
    retries: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def accept(self, order_id: str, kind: str, started: float, now: float) -> None:
        """An order was answered with 201."""
        self.orders[order_id] = Followed(kind, started)
        self.unfinished.add(order_id)
        self.accepted_s.append(now - started)

    def finish(self, order_id: str) -> None:
        """It is final; how, is learnt later where it is not said by `learn`."""
        self.unfinished.discard(order_id)

    def learn(self, order_id: str, status: str, reason: str | None, refund: str) -> None:
        order = self.orders[order_id]
        order.status, order.reason, order.refund = status, reason or "", refund

    @property
    def placed(self) -> int:
        return len(self.orders)

    @property
    def final(self) -> int:
        return len(self.orders) - len(self.unfinished)

    def refunds_due(self) -> list[str]:
        """Orders whose money has still to go back."""
        return [order_id for order_id, order in self.orders.items() if order.refund == "due"]


def percentiles(seconds: array[float]) -> dict[str, float | int]:
    """p50, p90, p99 and max in ms (nearest rank), and how many were measured; only that when none was."""
    ordered = sorted(seconds)
    count = len(ordered)
    if not count:
        return {"measured": 0}
    ranks = {f"p{share}": ordered[max(0, -(-count * share // 100) - 1)] for share in (50, 90, 99)}
    shown = {name: round(value * 1000, 2) for name, value in {**ranks, "max": ordered[-1]}.items()}
    return {**shown, "measured": count}
