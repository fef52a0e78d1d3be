"""What an audit finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Promise(IntEnum):
    """The five promises, by number."""

    NOTHING_LOST = 1
    NOTHING_TWICE = 2
    NOTHING_ILLEGAL = 3
    NOTHING_BLOCKED = 4
    BOOKS_BALANCE = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that is not kept. `subject` is an order's id, a SKU or a service."""

    promise: Promise
    subject: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"promise {int(self.promise)}, {self.subject}: {self.what} (expected {self.expected}, found {self.found})"
        )


@dataclass(slots=True)
class Report:
    """What was looked at and what was found. At most `KEPT` findings are kept; `count` is how many there were.

    `stuck` counts orders that need an operator, `waiting` events as `messaging.inbox.Waits` says. `refunded_by_word`
    counts the orders whose money is back by an operator's word: the bank's book has no refund.
    """

    at_rest: bool
    orders: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    stuck: int = 0
    refunded_by_word: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)
    count: int = 0
    findings: list[Finding] = field(default_factory=list)


KEPT = 1_000
